// `block-commit`: merges images of a chain downwards.
import { type ChainPlace, ON_ERROR, startCommit } from '@tidemark/engine';
import { z } from 'zod';
import { chainAccess } from '../../blockdev/chain-access.ts';
import { int64 } from '../arguments.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import { genericError, QmpError } from '../qmp-error.ts';

export const commitCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'block-commit',
    arguments: z.strictObject({
      'job-id': z.string().optional(),
      device: z.string(),
      'base-node': z.string().optional(),
      base: z.string().optional(),
      'top-node': z.string().optional(),
      top: z.string().optional(),
      'backing-file': z.string().optional(),
      speed: int64.optional(),
      'on-error': z.enum(ON_ERROR).optional(),
      'filter-node-name': z.string().optional(),
      'auto-finalize': z.boolean().optional(),
      'auto-dismiss': z.boolean().optional(),
    }),
    async run(args, daemon) {
      const { graph, jobs, clock } = daemon;
      const { device } = args;
      if (!graph.has(device)) throw new QmpError('DeviceNotFound', `Device '${device}' not found`);
      await startCommit({
        graph,
        jobs,
        clock,
        access: chainAccess(daemon),
        id: args['job-id'] ?? '',
        device,
        top: placeOf('top', args['top-node'], args.top),
        base: placeOf('base', args['base-node'], args.base),
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

function placeOf(which: string, node: string | undefined, name: string | undefined): ChainPlace | undefined {
  if (node !== undefined && name !== undefined) {
    throw genericError(`'${which}-node' and '${which}' are mutually exclusive`);
  }
  if (node !== undefined) return { node };
  return name === undefined ? undefined : { name };
}
