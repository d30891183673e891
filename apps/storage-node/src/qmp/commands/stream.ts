// `block-stream`: pulls a chain of images up into the image on its top.
import { ON_ERROR, startStream } from '@tidemark/engine';
import { z } from 'zod';
import { chainAccess } from '../../blockdev/chain-access.ts';
import { int64 } from '../arguments.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import { genericError } from '../qmp-error.ts';

/** Of these only one can be said, in the order in which QEMU looks. */
const EXCLUSIVE = [
  ['base', 'base-node'],
  ['base', 'bottom'],
  ['bottom', 'base-node'],
] as const;

export const streamCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'block-stream',
    arguments: z.strictObject({
      'job-id': z.string().optional(),
      device: z.string(),
      base: z.string().optional(),
      'base-node': z.string().optional(),
      'backing-file': z.string().optional(),
      bottom: z.string().optional(),
      speed: int64.optional(),
      'on-error': z.enum(ON_ERROR).optional(),
      'filter-node-name': z.string().optional(),
      'auto-finalize': z.boolean().optional(),
      'auto-dismiss': z.boolean().optional(),
    }),
    async run(args, daemon) {
      const { graph, jobs, clock } = daemon;
      for (const [one, other] of EXCLUSIVE) {
        if (args[one] === undefined || args[other] === undefined) continue;
        throw genericError(`'${one}' and '${other}' cannot be specified at the same time`);
      }
      const { base, 'base-node': baseNode } = args;
      await startStream({
        graph,
        jobs,
        clock,
        access: chainAccess(daemon),
        id: args['job-id'] ?? '',
        device: args.device,
        base: base !== undefined ? { name: base } : baseNode === undefined ? undefined : { node: baseNode },
        bottom: args.bottom,
        backingFile: args['backing-file'],
        speedBytesPerSecond: args.speed ?? 0,
        onError: args['on-error'],
        filterNodeName: args['filter-node-name'],
        autoFinalize: args['auto-finalize'] ?? true,
        autoDismiss: args['auto-dismiss'] ?? true,
      });
    },
  }),
];
