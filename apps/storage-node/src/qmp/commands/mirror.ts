// `blockdev-mirror`: lets a target become and stay equal to a disk in use.
import { COPY_MODES, ON_ERROR, startMirror } from '@tidemark/engine';
import { z } from 'zod';
import { chainAccess } from '../../blockdev/chain-access.ts';
import { int64, uint32 } from '../arguments.ts';
import { defineCommand, type QmpCommand } from '../command.ts';

export const mirrorCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'blockdev-mirror',
    arguments: z.strictObject({
      'job-id': z.string().optional(),
      device: z.string(),
      target: z.string(),
      replaces: z.string().optional(),
      sync: z.enum(['top', 'full', 'none', 'incremental', 'bitmap']),
      speed: int64.optional(),
      granularity: uint32.optional(),
      'buf-size': int64.optional(),
      'on-source-error': z.enum(ON_ERROR).optional(),
      'on-target-error': z.enum(ON_ERROR).optional(),
      'filter-node-name': z.string().optional(),
      'copy-mode': z.enum(COPY_MODES).optional(),
      'auto-finalize': z.boolean().optional(),
      'auto-dismiss': z.boolean().optional(),
    }),
    async run(args, daemon) {
      const { graph, jobs, clock } = daemon;
      await startMirror({
        graph,
        jobs,
        clock,
        access: chainAccess(daemon),
        id: args['job-id'] ?? '',
        source: args.device,
        target: args.target,
        sync: args.sync,
        replaces: args.replaces,
        speedBytesPerSecond: args.speed ?? 0,
        granularityBytes: args.granularity,
        bufferBytes: args['buf-size'],
        onSourceError: args['on-source-error'],
        onTargetError: args['on-target-error'],
        filterNodeName: args['filter-node-name'],
        copyMode: args['copy-mode'],
        autoFinalize: args['auto-finalize'] ?? true,
        autoDismiss: args['auto-dismiss'] ?? true,
      });
    },
  }),
];
