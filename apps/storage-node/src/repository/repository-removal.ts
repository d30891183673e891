// Takes backups out of their chains. A backup is hidden first: from then on nobody begins to read it or to build on
// it. Without children it goes with its files; with a single one the child is merged into its image, which then is
// the child's. Until the intent is written the child is as it was, and the same can be done again. From then on what
// the intent says is left to be done, by whoever begins the removal anew, and nobody else changes either of the two.
import { EngineError, type TaskControl } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { toTidemarkError } from '../grpc/errors.ts';
import { isNoSpace, storedBytes } from '../host/disk-space.ts';
import { Turns } from '../host/turns.ts';
import type { ChainGate } from './chain-gate.ts';
import type { Manifest, ManifestSums } from './manifest.ts';
import { checkMerged, ImageMerge } from './merge-images.ts';
import { mergeSums } from './merge-sums.ts';
import type { BackupHost } from './partial-backup.ts';
import {
  type RemovalIntent,
  removalSumsName,
  removeRest,
  switchChild,
  writeIntent,
} from './removal-intent.ts';
import { freeBytes } from './repository-space.ts';
import { findUnlistedChild } from './unlisted-child.ts';

/** Tables and counts that a merge may need beside the data: a bound from above for each MiB of it. */
const METADATA_SHARE = 1 / 64;

export interface RemovalHost extends Pick<BackupHost, 'store' | 'layout' | 'budget' | 'shared' | 'title'> {
  readonly manifests: Map<string, Manifest>;
  readonly gate: ChainGate;
  /** Who reads the backup or writes over it, in words. */
  userOf(backupId: string): string | undefined;
}

interface Work {
  readonly backupId: string;
  child: Manifest | undefined;
  /** From before it is written until all that it says is done. */
  intent: RemovalIntent | undefined;
}

/** A removal that has begun: its backup is hidden. */
export interface Removal {
  /** Rejects with `repository-full`, `image-invalid`, and what disks say; good to begin again then. */
  run(control: TaskControl): Promise<void>;
  /** In any case, at the end. */
  release(): void;
}

export class RepositoryRemovals {
  readonly #host: RemovalHost;
  /** Backups whose files change: those that leave, and the children they are merged with. */
  readonly #underWay = new Set<string>();
  /** Removals that failed after their intents may have been written, by the backups that leave. */
  readonly #unfinished = new Map<string, Work>();
  /** Two that begin at once would each find the other's backups free. */
  readonly #turns = new Turns();

  constructor(host: RemovalHost) {
    this.#host = host;
  }

  /** It and what stands on it are not touched while the process lives: nobody knows how far a removal had come. */
  leaveAlone(backupId: string): void {
    this.#underWay.add(backupId);
    for (const child of this.#childrenOf(backupId)) this.#underWay.add(child.backupId);
  }

  /** Whether its image is being changed: what is read of that image alone may not be what it was. */
  isUnderWay(backupId: string): boolean {
    return this.#underWay.has(backupId);
  }

  /**
   * Afterwards the backup is hidden, durably, and its files are the removal's until that is released. Rejects with
   * `backup-in-use`; a backup with several children, or whose child is used, is hidden all the same.
   */
  begin(backupId: string): Promise<Removal> {
    return this.#turns.take('begin', async () => {
      const unfinished = this.#unfinished.get(backupId);
      this.#unfinished.delete(backupId);
      return this.#removalOf(unfinished ?? (await this.#beginWork(backupId)));
    });
  }

  #removalOf(work: Work): Removal {
    return {
      run: control => this.#remove(work, control),
      release: () => {
        if (work.intent === undefined) this.#letGo(work);
        else this.#unfinished.set(work.backupId, work);
      },
    };
  }

  async #beginWork(backupId: string): Promise<Work> {
    const manifest = this.#get(backupId);
    const user = this.#underWay.has(backupId) ? 'another removal' : this.#host.userOf(backupId);
    if (user !== undefined) throw this.#inUse(backupId, `is used by ${user}`);
    // Before anything is waited for: nobody else takes hold of it from here on.
    this.#underWay.add(backupId);
    const work: Work = { backupId, child: undefined, intent: undefined };
    try {
      await this.#hide(manifest);
      work.child = await this.#freeChildOf(backupId);
    } catch (error) {
      this.#letGo(work);
      throw error;
    }
    if (work.child !== undefined) this.#underWay.add(work.child.backupId);
    return work;
  }

  #letGo({ backupId, child }: Work): void {
    this.#underWay.delete(backupId);
    if (child !== undefined) this.#underWay.delete(child.backupId);
  }

  /** What the hidden backup is merged into. Rejects with `backup-in-use` where it cannot go now. */
  async #freeChildOf(backupId: string): Promise<Manifest | undefined> {
    const stranger = await this.#unlistedChildOf(backupId);
    if (stranger !== undefined) {
      const text = `is hidden and stays, as image ${stranger} stands on it, which has no sound manifest: put that back`;
      throw this.#inUse(backupId, text);
    }
    const children = this.#childrenOf(backupId);
    if (children.length > 1) {
      const ids = children.map(child => child.backupId).join(' and ');
      const text = `is hidden and stays, as the parent of ${ids}, until only one of them is left`;
      throw this.#inUse(backupId, text);
    }
    const [child] = children;
    if (child === undefined) return undefined;
    const isChanging = this.#underWay.has(child.backupId);
    const user = isChanging ? 'another removal' : this.#host.userOf(child.backupId);
    if (user === undefined) return child;
    const text = `is hidden and stays while its child ${child.backupId} is used by ${user}`;
    throw this.#inUse(backupId, text);
  }

  async #remove(work: Work, control: TaskControl): Promise<void> {
    const { backupId, child } = work;
    try {
      work.intent ??= await this.#prepare(this.#get(backupId), child, control);
      await this.#finish(work.intent);
      work.intent = undefined;
    } catch (error) {
      if (isNoSpace(error)) throw this.#full(backupId, error);
      const isClear = error instanceof TidemarkError || isCancelled(error);
      throw isClear ? error : this.#failed(backupId, error);
    }
  }

  async #hide(manifest: Manifest): Promise<void> {
    if (manifest.hidden) return;
    const { store, layout, manifests } = this.#host;
    const hidden = { ...manifest, hidden: true };
    // At once, so that nobody comes in while it is written.
    manifests.set(manifest.backupId, hidden);
    try {
      await store.write(layout.manifest(manifest.backupId), hidden);
    } catch (error) {
      manifests.set(manifest.backupId, manifest);
      throw error;
    }
  }

  async #prepare(
    manifest: Manifest,
    child: Manifest | undefined,
    control: TaskControl,
  ): Promise<RemovalIntent> {
    const { backupId } = manifest;
    const intent = (after: Manifest | null): RemovalIntent => ({ version: 1, backupId, child: after });
    if (child === undefined) {
      await control.pace(0);
      return intent(null);
    }
    try {
      await this.#merge(manifest, child, control);
    } finally {
      await this.#recount(backupId);
    }
    const sums = await this.#mergeSums(manifest, child);
    const isFull = manifest.parentBackupId === '';
    return intent({
      ...child,
      parentBackupId: manifest.parentBackupId,
      ...(isFull && { kind: 'full', reason: mergedReason(child) }),
      storedBytes: await this.#storedBytes(backupId, sums),
      sums,
    });
  }

  async #merge(manifest: Manifest, child: Manifest, control: TaskControl): Promise<void> {
    const { store, layout, budget } = this.#host;
    const parent = store.path(layout.image(manifest.backupId));
    const merge = await ImageMerge.open({ parent, child: store.path(layout.image(child.backupId)) });
    let heldBytes = 0;
    try {
      const { dataBytes, newBytes } = await merge.estimate();
      control.progress.totalBytes = dataBytes;
      const needed = Math.ceil(Math.min(newBytes, child.storedBytes) * (1 + METADATA_SHARE));
      await this.#checkRoom(manifest.backupId, needed);
      // Beyond the limit, if need be: a removal ends with less than it began with.
      budget.take(needed);
      heldBytes = needed;
      await merge.copy(control, { compress: child.compression !== 'none' });
    } finally {
      budget.giveBack(heldBytes);
      await merge.close();
    }
    await checkMerged(parent).catch((error: unknown) => {
      if (!(error instanceof EngineError) || error.kind !== 'corrupt') throw error;
      throw new TidemarkError('image-invalid', `${error.message}. Verify backup ${child.backupId}.`, error);
    });
  }

  async #checkRoom(backupId: string, neededBytes: number): Promise<void> {
    const { title } = this.#host;
    const free = Math.max(0, await freeBytes(this.#host));
    if (neededBytes <= free) return;
    throw new TidemarkError(
      'repository-full',
      `To take backup ${backupId} out of its chain ${neededBytes} bytes are needed for a while, and the file system ` +
        `of ${title} has ${free} that nobody else waits for. Remove newer backups first, or make room there.`,
    );
  }

  async #mergeSums(manifest: Manifest, child: Manifest): Promise<ManifestSums | null> {
    const { store, layout } = this.#host;
    const target = removalSumsName(layout, manifest.backupId);
    await store.remove(target);
    if (manifest.sums === null || child.sums === null) return null;
    const parentPath = store.path(layout.sums(manifest.backupId));
    const childPath = store.path(layout.sums(child.backupId));
    const paths = { parent: parentPath, child: childPath, target: store.path(target) };
    return { ...child.sums, digest: await mergeSums(paths, child.sizeBytes) };
  }

  async #storedBytes(backupId: string, sums: ManifestSums | null): Promise<number> {
    const { store, layout } = this.#host;
    const image = await storedBytes(store.path(layout.image(backupId)));
    return sums === null ? image : image + (await storedBytes(store.path(removalSumsName(layout, backupId))));
  }

  /** A merge that ended early has left the image larger than the manifest says. */
  async #recount(backupId: string): Promise<void> {
    const { store, layout, budget, manifests } = this.#host;
    const manifest = this.#get(backupId);
    const sums = manifest.sums === null ? 0 : await storedBytes(store.path(layout.sums(backupId)));
    const bytes = sums + (await storedBytes(store.path(layout.image(backupId))));
    budget.giveBack(manifest.storedBytes);
    budget.take(bytes);
    manifests.set(backupId, { ...manifest, storedBytes: bytes });
  }

  /** Good to repeat, also where it failed in the middle. */
  async #finish(intent: RemovalIntent): Promise<void> {
    const { budget, gate, manifests } = this.#host;
    const { backupId, child } = intent;
    await gate.alone(async () => {
      await writeIntent(this.#host, intent);
      await switchChild(this.#host, intent);
      if (child !== null) {
        budget.giveBack(manifests.get(child.backupId)?.storedBytes ?? 0);
        budget.take(child.storedBytes);
        manifests.set(child.backupId, child);
      }
      await removeRest(this.#host, intent);
      // Last: a removal that nobody could ask for again would stay unfinished.
      budget.giveBack(this.#get(backupId).storedBytes);
      manifests.delete(backupId);
    });
  }

  #childrenOf(backupId: string): Manifest[] {
    return [...this.#host.manifests.values()].filter(({ parentBackupId }) => parentBackupId === backupId);
  }

  /** Its manifest is damaged or away: nobody lists it, and it needs its parent all the same. */
  #unlistedChildOf(backupId: string): Promise<string | undefined> {
    const { store, layout, manifests } = this.#host;
    return findUnlistedChild({ store, layout, manifests, parentId: backupId });
  }

  #get(backupId: string): Manifest {
    const manifest = this.#host.manifests.get(backupId);
    if (manifest !== undefined) return manifest;
    const text = `Backup ${backupId} of ${this.#host.title} is not there; list the backups to see which are.`;
    throw new TidemarkError('backup-not-found', text);
  }

  #inUse(backupId: string, state: string): TidemarkError {
    const text = `Backup ${backupId} of ${this.#host.title} ${state}. Remove it again later.`;
    return new TidemarkError('backup-in-use', text);
  }

  #full(backupId: string, cause: unknown): TidemarkError {
    return new TidemarkError(
      'repository-full',
      `The file system of ${this.#host.title} became full while backup ${backupId} was taken out of its chain. What ` +
        'stands on it is whole, and it stays hidden. Make room there, then remove it again.',
      cause,
    );
  }

  #failed(backupId: string, cause: unknown): TidemarkError {
    const { code, message } = toTidemarkError(cause);
    const text =
      `Backup ${backupId} of ${this.#host.title} could not be taken out of its chain: ${message}. It stays hidden. ` +
      'Mend or mount the disk there, verify what stands on it, then remove it again.';
    return new TidemarkError(code === 'internal-error' ? 'io-error' : code, text, cause);
  }
}

function isCancelled(error: unknown): boolean {
  return error instanceof EngineError && error.kind === 'cancelled';
}

/** It was an increment once, and says so. */
function mergedReason({ kind, reason }: Manifest): string {
  return kind === 'full'
    ? reason
    : `full: took over the backups it stood on, which were removed; before: ${reason}`;
}
