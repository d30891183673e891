// The transaction action `fleece` and the command that ends what it made. QEMU has neither: there the nodes of
// a frozen moment are added one after the other, so several disks cannot share one.
import { type FleeceAction, ON_CBW_ERROR, startFleece, type TransactionAction } from '@tidemark/engine';
import { z } from 'zod';
import { uint32 } from '../arguments.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import { genericError } from '../qmp-error.ts';
import type { StorageDaemon } from '../storage-daemon.ts';

export const fleeceArguments = z.strictObject({
  device: z.string(),
  target: z.string(),
  'snapshot-node-name': z.string(),
  'filter-node-name': z.string().optional(),
  bitmap: z.string().optional(),
  'on-cbw-error': z.enum(ON_CBW_ERROR).optional(),
  'cbw-timeout': uint32.optional(),
  'min-cluster-size': uint32.optional(),
});

const MILLISECONDS = 1000;

export function fleeceAction(
  args: z.output<typeof fleeceArguments>,
  daemon: StorageDaemon,
): TransactionAction {
  const filterNode = args['filter-node-name'] ?? daemon.graph.freeName();
  const action: FleeceAction = startFleece({
    clock: daemon.clock,
    source: args.device,
    target: args.target,
    snapshotNode: args['snapshot-node-name'],
    filterNode,
    bitmap: args.bitmap,
    // Chosen for QMP's sake: it is what QEMU's filter does when nobody says.
    onCbwError: args['on-cbw-error'] ?? 'break-guest-write',
    cbwTimeoutMs: (args['cbw-timeout'] ?? 0) * MILLISECONDS,
    minClusterBytes: args['min-cluster-size'],
    onBroken: reason => daemon.emitSnapshotBroken(filterNode, reason),
  });
  return {
    kind: action.kind,
    nodes: graph => action.nodes(graph),
    prepare(graph, staged, context) {
      const prepared = action.prepare(graph, staged, context);
      return {
        ...prepared,
        commit: () => {
          prepared.commit?.();
          const fleece = action.fleece!;
          daemon.fleeces.set(fleece.snapshotNode.name, fleece);
        },
      };
    },
  };
}

export const fleeceCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'x-tidemark-fleece-remove',
    arguments: z.strictObject({ 'snapshot-node-name': z.string() }),
    async run({ 'snapshot-node-name': name }, { fleeces }) {
      const fleece = fleeces.get(name);
      if (fleece === undefined) throw genericError(`Fleece '${name}' not found`);
      await fleece.remove();
      fleeces.delete(name);
    },
  }),
  defineCommand({
    name: 'x-tidemark-query-fleeces',
    arguments: z.strictObject({}),
    run: (_args, { fleeces }) =>
      [...fleeces.values()].map(({ snapshotNode, filterNode, broken }) => ({
        'snapshot-node-name': snapshotNode.name,
        'filter-node-name': filterNode.name,
        ...(broken === undefined ? {} : { broken: broken.message }),
      })),
  }),
];
