// What a repository's folder holds: published backups are read, what was never published is removed, anything odd is
// reported and left alone. Done when the process starts, and again when somebody asks for it.
import { stat } from 'node:fs/promises';
import { storedBytes } from '../host/disk-space.ts';
import type { StateStore } from '../host/state-store.ts';
import { sumsBytes } from '../sums/sums-format.ts';
import { type Manifest, manifestSchema } from './manifest.ts';
import { classify, type RepositoryLayout } from './repository-layout.ts';
import { backingOf } from './unlisted-child.ts';

/** Something a person has to look at; the storage node goes on without it. */
export interface RepositoryProblem {
  readonly repository: string;
  readonly what:
    | 'record-damaged'
    | 'unreadable'
    | 'manifest-damaged'
    | 'image-missing'
    | 'manifest-missing'
    | 'partial-removed'
    | 'sums-damaged'
    | 'parent-missing'
    | 'export-lost';
  readonly message: string;
  readonly backupId?: string;
}

export interface ScanOptions {
  readonly store: StateStore;
  readonly layout: RepositoryLayout;
  readonly report: (problem: RepositoryProblem) => void;
  /** Files that somebody is writing right now; asked at the moment before one is removed. */
  readonly isBeingWritten: (backupId: string) => boolean;
  /**
   * Images without a manifest are what a crash left before publication ended, and go. While the process lives there is
   * no such thing: somebody is putting files back, and their manifest may come last.
   */
  readonly removesUnpublished: boolean;
}

export interface ScanResult {
  readonly manifests: Map<string, Manifest>;
  readonly usedBytes: number;
}

export async function scanBackups(options: ScanOptions): Promise<ScanResult> {
  return new Scan(options).run();
}

class Scan {
  readonly #options: ScanOptions;
  readonly #manifests = new Map<string, Manifest>();
  readonly #images = new Set<string>();
  readonly #sums = new Set<string>();
  readonly #damaged = new Set<string>();
  #usedBytes = 0;

  constructor(options: ScanOptions) {
    this.#options = options;
  }

  async run(): Promise<ScanResult> {
    await this.#list();
    const { layout } = this.#options;
    const parents = await this.#neededBelow();
    for (const backupId of this.#images) {
      const isKnown = this.#manifests.has(backupId) || this.#damaged.has(backupId);
      await this.#keepOrRemove(backupId, layout.image(backupId), isKnown || parents.has(backupId));
      if (!isKnown && parents.has(backupId)) this.#reportMissingManifest(backupId);
    }
    for (const backupId of this.#sums) {
      const isKnown = this.#manifests.has(backupId) || this.#damaged.has(backupId) || parents.has(backupId);
      await this.#keepOrRemove(backupId, layout.sums(backupId), isKnown);
    }
    for (const manifest of this.#manifests.values()) await this.#reportIncomplete(manifest);
    return { manifests: this.#manifests, usedBytes: this.#usedBytes };
  }

  async #list(): Promise<void> {
    const { store, layout, isBeingWritten } = this.#options;
    for (const fileName of await store.list(layout.backups)) {
      const file = classify(fileName);
      if (file === undefined) continue;
      const { backupId } = file;
      if (file.what === 'partial') {
        if (!isBeingWritten(backupId)) await this.#remove(backupId, `${layout.backups}/${fileName}`);
      } else if (file.what === 'image') this.#images.add(backupId);
      else if (file.what === 'sums') this.#sums.add(backupId);
      else {
        const manifest = await this.#readManifest(backupId);
        if (manifest === undefined) this.#damaged.add(backupId);
        else this.#manifests.set(backupId, manifest);
      }
    }
  }

  /** Parents by the manifests; and, as those may be lost in the middle of a chain, by the headers of what is kept. */
  async #neededBelow(): Promise<Set<string>> {
    const { store, layout } = this.#options;
    const needed = new Set([...this.#manifests.values()].map(manifest => manifest.parentBackupId));
    const isKnown = (backupId: string) => this.#manifests.has(backupId) || this.#damaged.has(backupId);
    if ([...this.#images].every(isKnown)) return needed;
    const kept = [...this.#images].filter(backupId => isKnown(backupId) || needed.has(backupId));
    for (const backupId of kept) {
      const backing = await backingOf(store.path(layout.image(backupId)));
      const below = backing === undefined ? undefined : classify(backing);
      if (below?.what !== 'image' || needed.has(below.backupId)) continue;
      needed.add(below.backupId);
      // Looked at in its turn, where it is not known anyway.
      if (this.#images.has(below.backupId) && !isKnown(below.backupId)) kept.push(below.backupId);
    }
    return needed;
  }

  async #keepOrRemove(backupId: string, name: string, isKnown: boolean): Promise<void> {
    const { store, isBeingWritten, removesUnpublished } = this.#options;
    if (isKnown) this.#usedBytes += await storedBytes(store.path(name));
    else if (isBeingWritten(backupId)) return;
    else if (removesUnpublished) await this.#remove(backupId, name);
    else {
      const text =
        `${name} has no manifest: it is kept, not listed. Put the manifest back and scan again; or delete the file, ` +
        'as the next start of the storage node does.';
      this.#report('manifest-missing', backupId, text);
    }
  }

  /** The process ended between prepare and publish: the run starts over, nobody knows of this file. */
  async #remove(backupId: string, name: string): Promise<void> {
    await this.#options.store.remove(name);
    this.#report('partial-removed', backupId, `${name} was never published and is removed.`);
  }

  async #readManifest(backupId: string): Promise<Manifest | undefined> {
    const { store, layout } = this.#options;
    try {
      const manifest = await store.read(layout.manifest(backupId), manifestSchema);
      if (manifest?.backupId === backupId) return manifest;
      const text = `Manifest ${layout.manifest(backupId)} is of another backup. Put back the right one.`;
      this.#report('manifest-damaged', backupId, text);
    } catch (error) {
      this.#report('manifest-damaged', backupId, error instanceof Error ? error.message : String(error));
    }
    return undefined;
  }

  #reportMissingManifest(backupId: string): void {
    const { layout } = this.#options;
    this.#report(
      'manifest-missing',
      backupId,
      `${layout.image(backupId)} is the parent of a backup but has no manifest: it is kept, not listed. ` +
        'Put back the manifest.',
    );
  }

  async #reportIncomplete({ backupId, parentBackupId, sizeBytes, sums }: Manifest): Promise<void> {
    const { store, layout } = this.#options;
    if (!this.#images.has(backupId)) {
      const text = `${layout.image(backupId)} is missing though its manifest is there. Put the file back.`;
      this.#report('image-missing', backupId, text);
    }
    const isThere = parentBackupId === '' || this.#images.has(parentBackupId);
    if (!isThere && !this.#manifests.has(parentBackupId)) {
      const text = `Backup ${backupId} stands on ${parentBackupId}, which is not there. Put its files back.`;
      this.#report('parent-missing', backupId, text);
    }
    if (sums === null) return;
    const found = await sizeOf(store.path(layout.sums(backupId)));
    if (found === sumsBytes(sizeBytes)) return;
    const state =
      found === undefined ? 'is missing' : `has ${found} bytes instead of ${sumsBytes(sizeBytes)}`;
    const text = `${layout.sums(backupId)} ${state}. Put the file back; without it nothing can be verified.`;
    this.#report('sums-damaged', backupId, text);
  }

  #report(what: RepositoryProblem['what'], backupId: string, message: string): void {
    this.#options.report({ repository: this.#options.layout.folder, what, message, backupId });
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    ({ size }) => size,
    () => undefined,
  );
}
