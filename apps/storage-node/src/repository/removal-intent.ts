// The end of a removal: from when this file is there, a backup leaves its chain whatever happens, at the next start if
// not now. Every step is good to repeat.
//
//   backups/.removal-BACKUP.json   what its child is from now on (its manifest); null: it had none
//   backups/.removal-BACKUP.sums   the child's checksums, as merged; before that file is there: unfinished
//
//   1  the intent is written                              (before: nothing that anybody reads has changed)
//   2  BACKUP.qcow2, with all that is CHILD's, becomes CHILD.qcow2
//   3  .removal-BACKUP.sums becomes CHILD.sums
//   4  CHILD.json is written                              without a child, 2: BACKUP.qcow2 goes
//   5  BACKUP.sums goes, then BACKUP.json
//   6  the intent goes
import { stat } from 'node:fs/promises';
import { z } from 'zod';
import { StateFileError, type StateStore } from '../host/state-store.ts';
import { type Manifest, manifestSchema } from './manifest.ts';
import type { RepositoryLayout } from './repository-layout.ts';

const INTENT = /^\.removal-(.+)\.json$/;
const SUMS = /^\.removal-(.+)\.sums$/;

const removalIntentSchema = z.strictObject({
  version: z.literal(1),
  backupId: z.string(),
  child: manifestSchema.nullable(),
});

export interface RemovalIntent {
  readonly version: 1;
  readonly backupId: string;
  readonly child: Manifest | null;
}

interface Place {
  readonly store: StateStore;
  readonly layout: RepositoryLayout;
}

function removalIntentName({ backups }: RepositoryLayout, backupId: string): string {
  return `${backups}/.removal-${backupId}.json`;
}

export function removalSumsName({ backups }: RepositoryLayout, backupId: string): string {
  return `${backups}/.removal-${backupId}.sums`;
}

/** Step 1. */
export function writeIntent({ store, layout }: Place, intent: RemovalIntent): Promise<void> {
  return store.write(removalIntentName(layout, intent.backupId), intent);
}

/** Steps 2 to 4: afterwards the child stands without the backup, and the files say so. */
export async function switchChild({ store, layout }: Place, intent: RemovalIntent): Promise<void> {
  const { backupId, child } = intent;
  if (child === null) return store.remove(layout.image(backupId));
  const childId = child.backupId;
  const moves = [
    [layout.image(backupId), layout.image(childId)],
    [removalSumsName(layout, backupId), layout.sums(childId)],
  ] as const;
  for (const [from, to] of moves) {
    if (await exists(store.path(from))) await store.publishFile(from, to);
  }
  await store.write(layout.manifest(childId), child);
  if (child.sums === null) await store.remove(layout.sums(childId));
}

/** Steps 5 and 6. */
export async function removeRest({ store, layout }: Place, { backupId }: RemovalIntent): Promise<void> {
  await store.remove(layout.sums(backupId));
  await store.remove(layout.manifest(backupId));
  await store.remove(removalIntentName(layout, backupId));
}

/**
 * Before the folder is read: ends removals that were interrupted past step 1, and clears what is left of others.
 * Returns the ids of backups whose intents cannot be read, which `report` is told of: they and what stands on them are
 * to be left as they are.
 */
export async function finishRemovals(
  place: Place,
  report: (problem: { backupId: string; message: string }) => void,
): Promise<string[]> {
  const { store, layout } = place;
  const unclear: string[] = [];
  for (const fileName of await store.list(layout.backups)) {
    const backupId = INTENT.exec(fileName)?.[1];
    if (backupId === undefined) continue;
    const intent = await readIntent(place, fileName).catch((error: unknown) => {
      if (!(error instanceof StateFileError)) throw error;
      report({ backupId, message: `${error.message} Until then backup ${backupId} stays as it is.` });
      unclear.push(backupId);
    });
    if (intent === undefined) continue;
    await switchChild(place, intent);
    await removeRest(place, intent);
  }
  for (const fileName of await store.list(layout.backups)) {
    const backupId = SUMS.exec(fileName)?.[1];
    if (backupId !== undefined && !unclear.includes(backupId))
      await store.remove(`${layout.backups}/${fileName}`);
  }
  return unclear;
}

function readIntent({ store, layout }: Place, fileName: string): Promise<RemovalIntent | undefined> {
  return store.read(`${layout.backups}/${fileName}`, removalIntentSchema);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
