// Internal snapshots, which lie in the image itself: taking one, alone or in a transaction, and deleting one.
import { EngineError, type GraphNode, runTransaction, type TransactionAction } from '@tidemark/engine';
import { z } from 'zod';
import { deleteExactly, snapshotImageOf } from '../../blockdev/internal-snapshots.ts';
import { describeSnapshot } from '../../image-tool/snapshot-list.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import type { StorageDaemon } from '../storage-daemon.ts';

export const internalSnapshotArguments = z.strictObject({ device: z.string(), name: z.string() });

const NANOSECONDS_PER_MILLISECOND = 1_000_000n;

/**
 * Prepare takes the snapshot, with guests standing still until the transaction has ended either way: its moment is the
 * transaction's. Abort deletes it again.
 */
export function internalSnapshotAction(
  { device, name }: z.output<typeof internalSnapshotArguments>,
  daemon: StorageDaemon,
): TransactionAction {
  return {
    kind: 'blockdev-snapshot-internal-sync',
    nodes: graph => (graph.has(device) ? [graph.get(device)] : []),
    async prepare() {
      const node = findRoot(device, daemon);
      if (node.readOnly) throw invalid(`Device '${device}' is read only`);
      const image = snapshotImageOf(node, daemon);
      if (image === undefined) {
        const text = `Block format '${node.driver}' used by device '${device}' does not support internal snapshots`;
        throw new EngineError('unsupported', text, { node: device });
      }
      if (name === '') throw invalid('Name is empty');
      if ((await image.snapshots()).some(snapshot => snapshot.name === name)) {
        const text = `Snapshot with name '${name}' already exists on device '${device}'`;
        throw new EngineError('exists', text, { node: device, hint: 'Choose another name.' });
      }
      // The clock knows no finer parts. Without a guest its own clock is the wall's, as in QEMU.
      const nanoseconds = BigInt(Math.floor(daemon.clock.wallMs())) * NANOSECONDS_PER_MILLISECOND;
      const taken = await image.createSnapshot({
        name,
        dateNanoseconds: nanoseconds,
        vmClockNanoseconds: nanoseconds,
      });
      return { abort: () => deleteExactly(image, taken) };
    },
  };
}

/** Throws where images above rely on the node, or jobs. */
function findRoot(device: string, { graph }: StorageDaemon): GraphNode {
  const node = graph.find(device);
  if (node === undefined) {
    const text = `Cannot find device='${device}' nor node-name='${device}'`;
    throw new EngineError('not-found', text, { node: device, hint: 'List the block nodes.' });
  }
  if ([...node.parents].some(edge => edge.parent !== undefined)) throw invalid('Need a root block node');
  node.assertNotBlocked();
  return node;
}

async function deleteSnapshot(
  { device, id, name }: { device: string; id?: string | undefined; name?: string | undefined },
  daemon: StorageDaemon,
): Promise<object> {
  const node = findRoot(device, daemon);
  if (id === undefined && name === undefined) throw invalid('Name or id must be provided');
  const image = snapshotImageOf(node, daemon);
  if (image === undefined) {
    throw new EngineError('unsupported', 'Failed to get a snapshot list: Operation not supported', {
      node: device,
    });
  }
  return daemon.graph.drained([node], async () => {
    const found = (await image.snapshots()).find(
      snapshot => snapshot.id === (id ?? snapshot.id) && snapshot.name === (name ?? snapshot.name),
    );
    if (found === undefined) {
      const which = `id '${id ?? 'null'}' and name '${name ?? 'null'}'`;
      throw new EngineError('not-found', `Snapshot with ${which} does not exist on device '${device}'`, {
        node: device,
      });
    }
    await deleteExactly(image, found);
    return describeSnapshot(found);
  });
}

function invalid(text: string): EngineError {
  return new EngineError('invalid-argument', text, { hint: 'Look at the block node and its snapshots.' });
}

export const internalSnapshotCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'blockdev-snapshot-internal-sync',
    arguments: internalSnapshotArguments,
    run: (args, daemon) => runTransaction(daemon.graph, [internalSnapshotAction(args, daemon)]),
  }),
  defineCommand({
    name: 'blockdev-snapshot-delete-internal-sync',
    arguments: z.strictObject({
      device: z.string(),
      id: z.string().optional(),
      name: z.string().optional(),
    }),
    run: deleteSnapshot,
  }),
];
