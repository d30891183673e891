// A backup that is being written: hidden image and checksums, writable exports of both, publication.
//
//   create ─► writable ─► sealed ─► named ─► (manifest written: published)
//                 └──────────┴────────┴─► discarded
// `seal` closes exports and files and verifies what they hold, `name` gives the files their final names. Each step
// that failed can be repeated or be followed by `discard`.
import { stat } from 'node:fs/promises';
import { type BlockNode, Compress, createQcow2, createRawFile, openImage } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { NbdExports } from '../exports/nbd-exports.ts';
import { storedBytes } from '../host/disk-space.ts';
import type { StateStore } from '../host/state-store.ts';
import { sumsBytes } from '../sums/sums-format.ts';
import type { Compression } from './manifest.ts';
import type { BackupEndpoint } from './open-backups.ts';
import { PartialFile } from './partial-file.ts';
import { imageBytesBound } from './quota-node.ts';
import { imageFileName, type RepositoryLayout } from './repository-layout.ts';
import { freeBytes } from './repository-space.ts';
import type { SpaceBudget } from './space-budget.ts';
import { type SharedSpace, SpaceReservation } from './space-reservation.ts';

/** Room for what an empty image puts down with its first write: refcount block and table. */
const FIRST_WRITE_BYTES = 256 * 1024;
/** An empty qcow2 image of one refcount block and small L1 table, before it is there to be measured. */
const EMPTY_IMAGE_BYTES = 256 * 1024;
/** What a file takes at least where something is written: a block of the usual file systems. */
const SUMS_BLOCK_BYTES = 4096;

export interface PartialBackupPlan {
  readonly backupId: string;
  readonly volumeId: string;
  readonly sizeBytes: number;
  /** Empty: none. */
  readonly parentBackupId: string;
  readonly compression: Compression;
  /** Room that is to be there for what is copied; 0: nobody knows. */
  readonly expectedBytes: number;
}

/** As a copier asks for it; what it leaves open is the repository's to say. */
export type BackupRequest = Omit<PartialBackupPlan, 'compression'> & {
  readonly compression: Compression | undefined;
};

export interface BackupHost {
  readonly store: StateStore;
  readonly exports: NbdExports;
  readonly layout: RepositoryLayout;
  readonly budget: SpaceBudget;
  readonly shared: SharedSpace;
  /** For people. */
  readonly title: string;
}

export class PartialBackup {
  readonly plan: PartialBackupPlan;
  readonly sinceMs: number;
  readonly #space: SpaceReservation;
  readonly #image: PartialFile;
  readonly #sums: PartialFile;
  #isVerified = false;
  /** Of a replica: all of its source has come. */
  isWhole = false;

  private constructor(
    plan: PartialBackupPlan,
    parts: { space: SpaceReservation; image: PartialFile; sums: PartialFile; sinceMs: number },
  ) {
    this.plan = plan;
    this.sinceMs = parts.sinceMs;
    this.#space = parts.space;
    this.#image = parts.image;
    this.#sums = parts.sums;
  }

  /**
   * Sets room aside and makes files and exports. Rejects with `repository-full` or what the image says; nothing stays
   * then.
   */
  static async create(
    host: BackupHost,
    plan: PartialBackupPlan,
    options: { sinceMs: number },
  ): Promise<PartialBackup> {
    const space = await reserve(host, plan);
    let image: PartialFile | undefined;
    try {
      image = await createImage(host, plan, space);
      const sums = await createSums(host, plan, space);
      return new PartialBackup(plan, { space, image, sums, sinceMs: options.sinceMs });
    } catch (error) {
      // What cannot be removed now goes at the next start.
      await image?.remove().catch(() => undefined);
      space.settle(0);
      throw error;
    }
  }

  get endpoint(): BackupEndpoint {
    return { uri: this.#image.uri, sizeBytes: this.plan.sizeBytes, sumsUri: this.#sums.uri };
  }

  /** A repeated request for the same backup; how much it expects may differ. */
  matches(plan: PartialBackupPlan): boolean {
    const { volumeId, sizeBytes, parentBackupId, compression } = this.plan;
    return (
      plan.volumeId === volumeId &&
      plan.sizeBytes === sizeBytes &&
      plan.parentBackupId === parentBackupId &&
      plan.compression === compression
    );
  }

  /** Throws `backup-not-found` for a copy to another target: this one holds nothing of it, or half. */
  checkTarget(copiedTo: string): void {
    if (copiedTo === '' || copiedTo === this.#image.uri) return;
    throw new TidemarkError(
      'backup-not-found',
      `What was copied of backup ${this.plan.backupId} is gone: the storage node has started anew since, or it was ` +
        'discarded, and the backup is being written to another target. Copy to that one, then publish it.',
    );
  }

  /** To write to here, while `isWritable`. */
  get nodes(): { image: BlockNode; sums: BlockNode } {
    return { image: this.#image.node, sums: this.#sums.node };
  }

  get isWritable(): boolean {
    return this.#image.isWritable && this.#sums.isWritable;
  }

  /** Whether its copier made checksums: whoever copied nothing had nothing to make them of. */
  get hasSums(): boolean {
    return !this.#sums.isUntouched || this.#image.isUntouched;
  }

  /** Where both files lie now. */
  get paths(): { image: string; sums: string } {
    return { image: this.#image.path, sums: this.#sums.path };
  }

  /**
   * Ends the exports, closes both files durably, and has them verified, which rejects with `image-invalid` where they
   * are not what was sent.
   */
  async seal(verify: (paths: { image: string; sums: string }) => Promise<void>): Promise<void> {
    await this.#image.close();
    await this.#sums.close();
    if (this.#image.isBroken || this.#sums.isBroken) {
      throw new TidemarkError(
        'image-invalid',
        `Backup ${this.plan.backupId} could not be made durable. Discard it and run the backup again.`,
      );
    }
    if (this.#isVerified) return;
    await verify(this.paths);
    this.#isVerified = true;
  }

  /** Gives the sealed files their final names, durably. Returns the bytes that they take. */
  async name(): Promise<number> {
    await this.#image.name();
    if (!this.hasSums) {
      await this.#sums.remove();
      return storedBytes(this.paths.image);
    }
    await this.#sums.name();
    return (await storedBytes(this.paths.image)) + (await storedBytes(this.paths.sums));
  }

  /** The budget counts what the published files take instead of the bound from above. */
  settle(bytes: number): void {
    this.#space.settle(bytes);
  }

  /** Removes whatever is there. */
  async discard(): Promise<void> {
    await this.#image.remove();
    await this.#sums.remove();
    this.#space.settle(0);
  }
}

/** Rejects with `repository-full` before anything is made. */
async function reserve(host: BackupHost, plan: PartialBackupPlan): Promise<SpaceReservation> {
  const { budget, shared } = host;
  const { sizeBytes, expectedBytes } = plan;
  const copied = imageBytesBound({ dataBytes: expectedBytes, sizeBytes });
  const sums = expectedBytes === 0 ? 0 : sumsBytes(sizeBytes);
  const bytes = EMPTY_IMAGE_BYTES + FIRST_WRITE_BYTES + copied + sums;
  const free = await freeBytes(host);
  const available = Math.max(0, Math.min(free, budget.leftBytes));
  const space = bytes > free ? undefined : SpaceReservation.tryMake(budget, shared, bytes);
  if (space !== undefined) {
    // Taken at once; what the file really has of it is counted at the end.
    space.tryTake(EMPTY_IMAGE_BYTES + FIRST_WRITE_BYTES);
    return space;
  }
  const limit =
    budget.limitBytes === Number.POSITIVE_INFINITY ? 'no limit' : `a limit of ${budget.limitBytes}`;
  throw new TidemarkError(
    'repository-full',
    `Backup ${plan.backupId} is expected to take ${bytes} bytes, but ${available} are available: ${host.title} has ` +
      `${limit}, and its file system ${Math.max(0, free)} bytes that nobody else waits for. ` +
      'Remove backups, raise the limit or make room there, then back up again.',
  );
}

function createImage(
  { store, exports, layout }: BackupHost,
  plan: PartialBackupPlan,
  space: SpaceReservation,
): Promise<PartialFile> {
  const { backupId, sizeBytes, parentBackupId, compression } = plan;
  return PartialFile.create({
    store,
    exports,
    space,
    names: { partial: layout.partial(backupId), final: layout.image(backupId) },
    create: async path => {
      await createQcow2(path, {
        sizeBytes,
        ...(parentBackupId !== '' && {
          backing: { path: imageFileName(parentBackupId), format: 'qcow2' },
        }),
        ...(compression === 'zstd' && { compressionType: 'zstd' }),
      });
      // The L1 table grows with the disk.
      const more = (await stat(path)).size - EMPTY_IMAGE_BYTES;
      if (more > 0 && !space.tryTake(more)) throw noRoom(more, space);
    },
    open: async path => {
      const image = await openImage(path, { readOnly: false, format: 'qcow2' });
      return { image, node: compression === 'zstd' ? new Compress(image) : image };
    },
  });
}

function createSums(
  { store, exports, layout }: BackupHost,
  { backupId, sizeBytes }: PartialBackupPlan,
  space: SpaceReservation,
): Promise<PartialFile> {
  return PartialFile.create({
    store,
    exports,
    space,
    names: { partial: layout.partialSums(backupId), final: layout.sums(backupId) },
    create: path => createRawFile(path, sumsBytes(sizeBytes)),
    open: async path => {
      const image = await openImage(path, { readOnly: false, format: 'raw' });
      return { image, node: image };
    },
    blockBytes: SUMS_BLOCK_BYTES,
  });
}

function noRoom(bytes: number, space: SpaceReservation): TidemarkError {
  return new TidemarkError(
    'repository-full',
    `A new backup needs ${bytes} bytes more, but ${space.leftBytes} of the repository's ${space.limitBytes} are ` +
      'left. Remove backups or raise the limit.',
  );
}
