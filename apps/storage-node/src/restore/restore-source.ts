// What a restore reads: a backup's export, and that of its checksums; and what their failures mean to those who asked
// for the restore.
import { type Clock, type EngineError, isUnreadable } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { openBackupDisk } from '../exports/backup-disk.ts';
import { nbdPlace } from '../exports/nbd-place.ts';
import type { ReconnectingNode } from '../exports/reconnecting-node.ts';

export interface SourceRequest {
  readonly sourceUri: string;
  readonly sizeBytes: number;
  /** What cannot be read is left out and told; otherwise it ends the job. */
  readonly skipDamage: boolean;
}

export interface SourceOptions {
  readonly clock: Clock;
  /** How long reads wait for a connection that was lost; 0: they fail at once. */
  readonly reconnectMs: number;
}

/** Rejects with `invalid-request` for a backup of another size, or with what the connecting says. */
export async function openSource(
  { sourceUri, sizeBytes, skipDamage }: SourceRequest,
  options: SourceOptions,
): Promise<ReconnectingNode> {
  const disk = await openBackupDisk(sourceUri, { readOnly: true, dataWhereUnknown: skipDamage, ...options });
  if (disk.sizeBytes === sizeBytes) return disk;
  await disk.close();
  const text =
    `The backup in the repository at ${nbdPlace(sourceUri)} has ${disk.sizeBytes} bytes, not ${sizeBytes}. ` +
    "Ask for the backup's size.";
  throw new TidemarkError('invalid-request', text);
}

export function openSums(sumsUri: string, options: SourceOptions): Promise<ReconnectingNode> {
  return openBackupDisk(sumsUri, { readOnly: true, ...options });
}

/** What cannot be read of a backup is damage of it, no trouble of this storage node; a lost way to it is neither. */
export function explainEnd(error: EngineError | undefined, { sourceUri }: SourceRequest): unknown {
  if (error?.context.node !== 'nbd') return error;
  if (isUnreadable(error)) {
    const text =
      `The backup is damaged: ${error.message}. ` +
      'Restore it with holes where it is (onDamage "skip"), or choose another backup.';
    return new TidemarkError('backup-damaged', text, error);
  }
  if (!isLost(error)) return error;
  const text =
    `The repository at ${nbdPlace(sourceUri)} was lost while the backup was read: ${error.message}. ` +
    'See that its storage node can be reached, then restore again.';
  return new TidemarkError('io-error', text, error);
}

function isLost({ kind, context: { op, errno } }: EngineError): boolean {
  return kind === 'not-found' || op === 'reconnect' || errno === 'ECONNRESET';
}
