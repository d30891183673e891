// A snapshot: the volume's contents of one instant, kept in an image of their own. A storage node cannot take
// one back, so a snapshot that came to be stays, whatever becomes of the run.
import { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import type { RunContext, RunDefinition } from './run-definition.ts';

const created = z.object({ pointInTimeMs: z.number() });

export const createSnapshotRun: RunDefinition<'create-snapshot'> = {
  steps: [
    {
      name: 'create',
      final: true,
      async run({ request: { volumeId, snapshotId, name }, run, storageNodes, call, stop }) {
        const { snapshots } = await storageNodes.ofVolume(volumeId);
        const wanted = { step: call('create'), volumeId, snapshotId, name };
        // The guest's writes of a while are made durable first.
        const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
        const { createdAtMs } = await snapshots.createSnapshot(wanted, options);
        const pointInTime = new Date(createdAtMs);
        return {
          output: { pointInTimeMs: createdAtMs },
          facts: { checkpointAt: pointInTime },
          commit: catalog => catalog.snapshots.markReady(snapshotId, pointInTime, run.id),
        };
      },
      undo: adoptWhatIsThere,
    },
  ],
  result: context => ({ snapshotId: context.request.snapshotId, ...context.output('create', created) }),
  withdraw: (catalog, { request, run }) => catalog.snapshots.deleteUnmade(request.snapshotId, run.id),
};

/** An answer that got lost may have been a good one. */
async function adoptWhatIsThere(context: RunContext<'create-snapshot'>): Promise<void> {
  const { volumeId, snapshotId, name } = context.request;
  const listed = await listSnapshots(context);
  const found = listed.find(snapshot => snapshot.snapshotId === snapshotId);
  if (!found) return;
  const pointInTime = new Date(found.createdAtMs);
  await context.catalog.snapshots.adopt({ id: snapshotId, volumeId, name, pointInTime }, context.run.id);
}

/** Those of the run's volume; none when its storage node does not have the volume. */
export async function listSnapshots(context: RunContext<'create-snapshot' | 'commit'>) {
  const { volumeId } = context.request;
  const { snapshots } = await context.storageNodes.ofVolume(volumeId);
  try {
    return (await snapshots.listSnapshots({ volumeId }, { signal: context.stop })).snapshots;
  } catch (error) {
    if (error instanceof TidemarkError && error.code === 'volume-not-found') return [];
    throw error;
  }
}
