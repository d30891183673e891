// Runs that succeed, and yet have nothing good to say: whoever waits for one is told by the exit status, whichever
// command it was that waited.
import { RunFailure, resultOf, type Schema } from '@tidemark/client';
import { CompleteWithHoles } from './output.ts';
import { formatSize } from './sizes.ts';

/** More would hide what stands before it. */
const RANGES_SHOWN_MAX = 100;

type Damage = NonNullable<Schema<'RestoreResult'>['damage']>;

/** Throws CompleteWithHoles for a restore that has them, RunFailure for damage that was looked for and found. */
export function requireGoodResult(run: Schema<'Run'>): void {
  const damage = resultOf(run, 'restore')?.damage;
  if (damage != null) throw withHoles(damage);
  const verified = resultOf(run, 'verify');
  if (verified?.result === 'damaged') {
    const words = `Backup ${run.backupId} is damaged. Put its files back, or make a full backup.`;
    const detail = verified.detail ?? words;
    throw new RunFailure({ title: 'The backup is damaged', detail, code: 'backup-damaged' });
  }
  const group = resultOf(run, 'create-group');
  if (group !== null) requireWholeGroup(group);
  if (resultOf(run, 'audit')?.result === 'different') {
    throw new RunFailure({
      title: 'Bitmap and backup do not agree',
      detail: `What the bitmaps of volume ${run.volumeId} call unchanged has changed. Make a backup: it will be full.`,
      code: 'audit-failed',
    });
  }
}

function requireWholeGroup({ state, failed, notThawed }: Schema<'GroupResult'>): void {
  if (state === 'incomplete') {
    const lines = failed.map(({ volume, code, message }) => `${volume}: ${code}: ${message}`);
    const advice = 'Their checkpoints are good. Make backups of these volumes, or the group again.';
    const detail = [advice, ...lines].join('\n');
    throw new RunFailure({
      title: 'Not all backups of the group came about',
      detail,
      code: 'group-incomplete',
    });
  }
  // Of a group whose run an older worker ended, nothing is known of it.
  if ((notThawed ?? []).length === 0) return;
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
