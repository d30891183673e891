// The folder of a volume that is being made or removed. A mark says so from before the first image is there until the
// record is, and again from when the record goes until the last image has: a folder without record and without mark
// has lost its record, and is nobody's to remove.
import type { StateStore } from '../host/state-store.ts';
import type { VolumeLayout } from './volume-record.ts';

/** Afterwards a crash leaves what the next start removes. Rejects as `StateStore.write`. */
export function markUnfinished(store: StateStore, layout: VolumeLayout): Promise<void> {
  return store.write(layout.unfinished, { version: 1 });
}

/** The record is there, durably: from here on the folder stays. Good to repeat. */
export function markFinished(store: StateStore, layout: VolumeLayout): Promise<void> {
  return store.remove(layout.unfinished);
}

/** Of a folder without record: whether its volume never was, or is to be no more. */
export async function isUnfinished(store: StateStore, layout: VolumeLayout): Promise<boolean> {
  const names = (await store.list(layout.folder)).map(name => `${layout.folder}/${name}`);
  if (names.includes(layout.unfinished)) return true;
  // A crash before the mark: nothing that anybody could have written to.
  return names.every(name => name === layout.bitmaps) && (await store.list(layout.bitmaps)).length === 0;
}

/** Good to repeat; needs no space. What a crash leaves of it is removed by the next start. */
export async function removeVolumeFolder(store: StateStore, layout: VolumeLayout): Promise<void> {
  const inFolder = async () => (await store.list(layout.folder)).map(name => `${layout.folder}/${name}`);
  if ((await inFolder()).includes(layout.record)) {
    // Where it cannot be kept under another name it goes all the same: somebody asked for that.
    await store.publishFile(layout.record, layout.unfinished).catch(() => store.remove(layout.record));
  }
  for (const name of await inFolder()) {
    if (name !== layout.unfinished) await store.removeFolder(name);
  }
  await store.removeFolder(layout.folder);
}
