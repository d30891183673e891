// Images of backups that nobody lists, since their manifests are damaged or away. They stand on what their header says.
import { FileNode, readQcow2Header } from '@tidemark/engine';
import type { StateStore } from '../host/state-store.ts';
import type { Manifest } from './manifest.ts';
import { classify, imageFileName, type RepositoryLayout } from './repository-layout.ts';

/** File name of an image without a manifest over the parent's; undefined: there is none. Rejects as disks do. */
export async function findUnlistedChild(place: {
  readonly store: StateStore;
  readonly layout: RepositoryLayout;
  readonly manifests: ReadonlyMap<string, Manifest>;
  readonly parentId: string;
}): Promise<string | undefined> {
  const { store, layout, manifests, parentId } = place;
  for (const fileName of await store.list(layout.backups)) {
    const file = classify(fileName);
    if (file?.what !== 'image' || manifests.has(file.backupId)) continue;
    if ((await backingOf(store.path(layout.image(file.backupId)))) === imageFileName(parentId))
      return fileName;
  }
  return undefined;
}

/** Undefined also of what is no image, or went meanwhile: nothing can be read through it. */
export async function backingOf(imagePath: string): Promise<string | undefined> {
  let file: FileNode | undefined;
  try {
    file = await FileNode.open(imagePath, { readOnly: true, locking: 'off' });
    return (await readQcow2Header(file)).backingPath;
  } catch {
    return undefined;
  } finally {
    await file?.close();
  }
}
