// The intent of a move: which volume goes to which storage node, and the run that does it.
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import type { CatalogTransaction } from '../catalog.ts';
import type { Run } from '../run.ts';
import type { Volume } from '../volume-repository.ts';
import { requireOnline, requireOpen } from './require-online.ts';

export interface WantedMove {
  /** Ids or names. */
  readonly volume: string;
  readonly storageNode: string;
  readonly speedBytesPerSecond?: number | undefined;
  /** Default: on whose behalf the catalog is used. */
  readonly requestedBy?: string | undefined;
  /** Of the run beside others that wait; 0, the default, before all that have a number. */
  readonly priority?: number | undefined;
}

/**
 * Within a transaction: afterwards the volume is `moving` or, when it rejects and the transaction with it, as it was.
 * Rejects as `moves.begin`, and where one of the storage nodes cannot take part.
 */
export async function intendMove(
  catalog: CatalogTransaction,
  runId: string,
  wanted: WantedMove,
): Promise<{ run: Run; volume: Volume }> {
  const { id, name, storageNodeId, sizeBytes, format } = await catalog.volumes.get(wanted.volume);
  const target = await catalog.storageNodes.get(wanted.storageNode);
  if (target.id === storageNodeId) {
    const text = `Volume '${name}' is on storage node '${target.name}' already. Name another one.`;
    throw new TidemarkError('invalid-request', text);
  }
  await catalog.moves.begin(id, runId);
  const source = await catalog.storageNodes.get(storageNodeId);
  requireOnline(source);
  requireOpen(target);
  const run = await catalog.runs.create({
    id: runId,
    kind: 'move-volume',
    storageNodeId: target.id,
    volumeId: id,
    priority: wanted.priority ?? 0,
    ...(wanted.requestedBy !== undefined && { requestedBy: wanted.requestedBy }),
    request: {
      ...{ volumeId: id, name, sizeBytes, format },
      ...{
        sourceNodeId: source.id,
        sourceNode: source.name,
        targetNodeId: target.id,
        targetNode: target.name,
      },
      speedBytesPerSecond: wanted.speedBytesPerSecond ?? null,
    } satisfies RunRequest<'move-volume'>,
  });
  return { run, volume: await catalog.volumes.get(id) };
}
