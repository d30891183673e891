// What a cancelled run leaves, in words: the one text that callers who wait, who look, and the command are given.
import type { Run } from '@tidemark/catalog';

const NOTHING = ', and what it had made is undone.';

/** Of what cannot be undone. */
const WHAT_STAYS: Partial<Record<Run['kind'], (run: Run) => string>> = {
  commit: () =>
    '; the guest goes on where it was. Snapshots that the commit had overwritten by then stay lost.',
  prune: () =>
    '. Backups that it had removed by then stay gone; the others are back, but for those that an earlier prune ' +
    'had left hidden.',
  restore: ({ request, steps }) => {
    const { inPlace } = request.target as { inPlace?: { name: string } };
    // Before that step nothing is written; from its beginning on nobody can be sure.
    if (inPlace === undefined || !steps.some(({ name }) => name === 'start')) return NOTHING;
    return (
      `. Volume '${inPlace.name}' may hold a mixture of its old contents and the backup's: run the restore again, ` +
      'or restore another backup over it.'
    );
  },
};

/** Null unless the run was cancelled. */
export function endingOf(run: Run): string | null {
  if (run.state !== 'cancelled') return null;
  return `The ${run.kind} run ${run.id} was cancelled${WHAT_STAYS[run.kind]?.(run) ?? NOTHING}`;
}
