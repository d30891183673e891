// External snapshots, as commands and as actions of a transaction: a block node stays as it is, and an overlay above
// takes what is written from now on.
import {
  type BlockGraph,
  EngineError,
  type GraphNode,
  runTransaction,
  type TransactionAction,
  takeSnapshot,
} from '@tidemark/engine';
import { z } from 'zod';
import { addedOverlay, newOverlay } from '../../blockdev/overlay.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import type { StorageDaemon } from '../storage-daemon.ts';

export const snapshotArguments = z.strictObject({ node: z.string(), overlay: z.string() });

export const snapshotSyncArguments = z.strictObject({
  device: z.string().optional(),
  'node-name': z.string().optional(),
  'snapshot-file': z.string(),
  'snapshot-node-name': z.string().optional(),
  format: z.string().optional(),
  mode: z.enum(['existing', 'absolute-paths']).optional(),
});

export function snapshotAction(
  { node, overlay }: z.output<typeof snapshotArguments>,
  daemon: StorageDaemon,
): TransactionAction {
  return takeSnapshot({
    kind: 'blockdev-snapshot',
    base: graph => findDevice(graph, node, node),
    alsoStill: graph => (graph.has(overlay) ? [graph.get(overlay)] : []),
    overlay: base => addedOverlay(findDevice(daemon.graph, overlay, overlay), base, daemon),
  });
}

export function snapshotSyncAction(
  args: z.output<typeof snapshotSyncArguments>,
  daemon: StorageDaemon,
): TransactionAction {
  const { device = '', 'node-name': name = '', 'snapshot-node-name': nodeName } = args;
  return takeSnapshot({
    kind: 'blockdev-snapshot-sync',
    base: graph => findDevice(graph, device, name),
    overlay(base) {
      const create = args.mode !== 'existing';
      if (nodeName === undefined) {
        throw invalid('New overlay node-name missing', "Add a 'snapshot-node-name'.");
      }
      if (daemon.graph.has(nodeName)) {
        throw invalid('New overlay node-name already in use', 'Choose another name.');
      }
      const filename = args['snapshot-file'];
      return newOverlay({ filename, nodeName, format: args.format ?? 'qcow2', create }, base, daemon);
    },
  });
}

/** No block node here belongs to a device: only node names are found. */
function findDevice(graph: BlockGraph, device: string, name: string): GraphNode {
  const node = graph.find(name);
  if (node !== undefined) return node;
  const text = `Cannot find device='${device}' nor node-name='${name}'`;
  throw new EngineError('not-found', text, { node: name, hint: 'List the block nodes.' });
}

function invalid(text: string, hint: string): EngineError {
  return new EngineError('invalid-argument', text, { hint });
}

export const snapshotCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'blockdev-snapshot',
    arguments: snapshotArguments,
    run: (args, daemon) => runTransaction(daemon.graph, [snapshotAction(args, daemon)]),
  }),
  defineCommand({
    name: 'blockdev-snapshot-sync',
    arguments: snapshotSyncArguments,
    run: (args, daemon) => runTransaction(daemon.graph, [snapshotSyncAction(args, daemon)]),
  }),
];
