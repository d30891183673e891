// Runs that succeed, and yet have nothing good to say: whoever waits for one is told by the exit status, whichever
// command it was that waited.
import { RunFailure, type Schema } from '@tidemark/client';
import { CompleteWithHoles } from './output.ts';
import { formatSize } from './sizes.ts';

/** More would hide what stands before it. */
const RANGES_SHOWN_MAX = 100;

interface Damage {
  bytes: number;
  ranges: { offset: number; length: number }[];
  truncated: boolean;
}

/** Throws CompleteWithHoles for a restore that has them, RunFailure for damage that was looked for and found. */
export function requireGoodResult({ kind, result, volumeId, backupId }: Schema<'Run'>): void {
  if (result === null) return;
  if (kind === 'restore' && result.damage != null) throw withHoles(result.damage as Damage);
  if (kind === 'verify' && result.result === 'damaged') {
    const words = `Backup ${backupId} is damaged. Put its files back, or make a full backup.`;
    const detail = typeof result.detail === 'string' ? result.detail : words;
    throw new RunFailure({ title: 'The backup is damaged', detail, code: 'backup-damaged' });
  }
  if (kind === 'create-group') requireWholeGroup(result);
  if (kind === 'audit' && result.result === 'different') {
    throw new RunFailure({
      title: 'Bitmap and backup do not agree',
      detail: `What the bitmaps of volume ${volumeId} call unchanged has changed. Make a backup: it will be full.`,
      code: 'audit-failed',
    });
  }
}

function requireWholeGroup({ state, failed, notThawed }: Record<string, unknown>): void {
  if (state === 'incomplete') {
    const lines = (failed as { volume: string; code: string; message: string }[]).map(
      ({ volume, code, message }) => `${volume}: ${code}: ${message}`,
    );
    const advice = 'Their checkpoints are good. Make backups of these volumes, or the group again.';
    const detail = [advice, ...lines].join('\n');
    throw new RunFailure({
      title: 'Not all backups of the group came about',
      detail,
      code: 'group-incomplete',
    });
  }
  if (!Array.isArray(notThawed) || notThawed.length === 0) return;
  const detail = `The group is good, but these applications may still hold still:\n${notThawed.join('\n')}`;
  throw new RunFailure({ title: 'A hook did not thaw', detail, code: 'hook-failed' });
}

function withHoles(damage: Damage): CompleteWithHoles {
  const shown = damage.ranges.slice(0, RANGES_SHOWN_MAX);
  const lines = shown.map(({ offset, length }) => `  ${offset} + ${length}`);
  const rest = damage.truncated || shown.length < damage.ranges.length ? ['  and more'] : [];
  return new CompleteWithHoles(
    [
      `complete with holes: ${formatSize(damage.bytes)} of the backup cannot be read, at (offset + length in bytes):`,
      ...[...lines, ...rest],
      'The next backup of the volume into that repository sends these places again.',
    ].join('\n'),
  );
}
