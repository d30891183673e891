// What a repository's folder holds when the process starts: published backups are read, what was never
// published is removed, anything odd is reported and left alone.
import { stat } from 'node:fs/promises';
import { storedBytes } from './disk-space.ts';
import { type Manifest, manifestSchema } from './manifest.ts';
import { classify, type RepositoryLayout } from './repository-layout.ts';
import type { StateStore } from './state-store.ts';

/** Something a person has to look at; the storage node goes on without it. */
export interface RepositoryProblem {
  readonly repository: string;
  readonly what:
    | 'record-damaged'
    | 'manifest-damaged'
    | 'image-missing'
    | 'manifest-missing'
    | 'partial-removed'
    | 'export-lost';
  readonly message: string;
}

interface ScanOptions {
  readonly store: StateStore;
  readonly layout: RepositoryLayout;
  readonly report: (problem: RepositoryProblem) => void;
}

export async function scanBackups(
  options: ScanOptions,
): Promise<{ manifests: Map<string, Manifest>; usedBytes: number }> {
  const { store, layout } = options;
  const manifests = new Map<string, Manifest>();
  const images: string[] = [];
  const sums: string[] = [];
  const damaged = new Set<string>();
  for (const fileName of await store.list(layout.backups)) {
    const file = classify(fileName);
    if (file?.what === 'partial') {
      await removeUnfinished(options, `${layout.backups}/${fileName}`);
    } else if (file?.what === 'image') {
      images.push(file.backupId);
    } else if (file?.what === 'sums') {
      sums.push(file.backupId);
    } else if (file?.what === 'manifest') {
      const manifest = await readManifest(options, file.backupId);
      if (manifest === undefined) damaged.add(file.backupId);
      else manifests.set(file.backupId, manifest);
    }
  }
  const parents = new Set([...manifests.values()].map(manifest => manifest.parentBackupId));
  let usedBytes = 0;
  for (const backupId of images) {
    const isKnown = manifests.has(backupId) || damaged.has(backupId);
    if (!isKnown && !parents.has(backupId)) {
      await removeUnfinished(options, layout.image(backupId));
      continue;
    }
    if (!isKnown) reportMissingManifest(options, backupId);
    usedBytes += await storedBytes(store.path(layout.image(backupId)));
  }
  for (const backupId of sums) {
    if (!manifests.has(backupId) && !damaged.has(backupId) && !parents.has(backupId)) {
      await removeUnfinished(options, layout.sums(backupId));
    } else usedBytes += await storedBytes(store.path(layout.sums(backupId)));
  }
  await reportMissingImages(options, manifests);
  return { manifests, usedBytes };
}

/** The process ended between prepare and publish: the run starts over, nobody knows of this file. */
async function removeUnfinished({ store, layout, report }: ScanOptions, name: string): Promise<void> {
  await store.remove(name);
  report({
    repository: layout.folder,
    what: 'partial-removed',
    message: `${name} was never published and is removed.`,
  });
}

async function readManifest(options: ScanOptions, backupId: string): Promise<Manifest | undefined> {
  const { store, layout, report } = options;
  try {
    const manifest = await store.read(layout.manifest(backupId), manifestSchema);
    if (manifest?.backupId === backupId) return manifest;
    report({
      repository: layout.folder,
      what: 'manifest-damaged',
      message: `Manifest ${layout.manifest(backupId)} is of another backup. Put back the right one.`,
    });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    report({ repository: layout.folder, what: 'manifest-damaged', message });
  }
  return undefined;
}

function reportMissingManifest({ layout, report }: ScanOptions, backupId: string): void {
  report({
    repository: layout.folder,
    what: 'manifest-missing',
    message:
      `${layout.image(backupId)} is the parent of a backup but has no manifest: it is kept, not listed. ` +
      'Put back the manifest.',
  });
}

async function reportMissingImages(
  { store, layout, report }: ScanOptions,
  manifests: ReadonlyMap<string, Manifest>,
): Promise<void> {
  for (const backupId of manifests.keys()) {
    const isThere = await stat(store.path(layout.image(backupId))).then(
      () => true,
      () => false,
    );
    if (isThere) continue;
    report({
      repository: layout.folder,
      what: 'image-missing',
      message: `${layout.image(backupId)} is missing though its manifest is there. Put the file back.`,
    });
  }
}
