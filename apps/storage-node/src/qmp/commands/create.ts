// `blockdev-create`: makes an image as a job.
import { CreateJob, EngineError } from '@tidemark/engine';
import { z } from 'zod';
import { createFile, createFileOptions } from '../../blockdev/create/create-file.ts';
import { createQcow2Image, createQcow2Options } from '../../blockdev/create/create-qcow2.ts';
import { blockdevDrivers } from '../../blockdev/drivers.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import type { StorageDaemon } from '../storage-daemon.ts';

const others = [...blockdevDrivers.keys()].filter(name => name !== 'file' && name !== 'qcow2');

const createOptions = z.discriminatedUnion('driver', [
  createFileOptions,
  createQcow2Options,
  ...others.map(name => z.strictObject({ driver: z.literal(name) })),
]);

type CreateOptions = z.output<typeof createFileOptions> | z.output<typeof createQcow2Options>;

function create(options: CreateOptions, daemon: StorageDaemon): Promise<void> {
  return options.driver === 'file' ? createFile(options) : createQcow2Image(options, daemon);
}

export const createCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'blockdev-create',
    arguments: z.strictObject({ 'job-id': z.string(), options: createOptions }),
    run({ 'job-id': id, options }, daemon) {
      if (others.includes(options.driver)) {
        throw new EngineError('unsupported', 'Driver does not support blockdev-create', {
          hint: 'Make the file first, then the image in it.',
        });
      }
      daemon.jobs.assertIdFree(id);
      const job = new CreateJob({
        id,
        clock: daemon.clock,
        autoDismiss: false,
        create: () => create(options as CreateOptions, daemon),
      });
      daemon.jobs.add(job);
      job.start();
    },
  }),
];
