// Looks at a backup without restoring it: is its chain whole, are the images sound, does all data have its checksum.
import { Bitmap, type BlockNode, checkQcow2, EngineError, FileNode } from '@tidemark/engine';
import type { JobDamage } from '../restore/job-damage.ts';
import { type ClusterFault, type CompareOptions, compareWithSums } from '../sums/compare-with-sums.ts';
import { sumsDigest } from '../sums/sums-digest.ts';
import { CLUSTER_BYTES, isNothing, RECORD_BYTES, recordsOf, sumsBytes } from '../sums/sums-format.ts';
import { SumsReader } from '../sums/sums-reader.ts';
import { assertDamage } from './damage-or-away.ts';
import type { Manifest } from './manifest.ts';
import { openLayer } from './publication.ts';

/** Findings that are told in words; the places are in the damage map. */
const FINDINGS_MAX = 20;
/** Of the disk, looked at together: as many records as a page of them has. */
const WINDOW_BYTES = 4096 * CLUSTER_BYTES;

export interface VerificationOptions {
  /** What is verified, newest first: the backup, and those it stands on where they are looked at, too. */
  readonly chain: readonly Manifest[];
  /** All that the chain should have is in it, or looked at elsewhere. */
  readonly isChainWhole: boolean;
  readonly filesOf: (backupId: string) => { image: string; sums: string };
  /** Takes the ranges of the newest backup's disk that do not read as they were. */
  readonly damage: JobDamage;
  readonly pace: (step: { seenBytes: number; readBytes: number }) => Promise<void>;
}

/** Checksums of a backup in the chain that is above the one looked at. */
interface Above {
  readonly records: SumsReader | undefined;
}

export class BackupVerification {
  readonly #options: VerificationOptions;
  readonly #findings: string[] = [];
  #count = 0;
  #isAway = false;
  /** Clusters that are in the damage map already. */
  readonly #disk: Bitmap;

  constructor(options: VerificationOptions) {
    this.#options = options;
    this.#disk = new Bitmap(options.chain[0]!.sizeBytes, CLUSTER_BYTES);
  }

  /** What is wrong, in words; empty: nothing is. */
  get findings(): readonly string[] {
    const more = this.#count - this.#findings.length;
    return more === 0 ? this.#findings : [...this.#findings, `and ${more} more`];
  }

  /** Rejects with what `pace` does, and with kind `io` where the files are away: that is no damage. */
  async run(): Promise<void> {
    const { chain, isChainWhole } = this.#options;
    await using held = new AsyncDisposableStack();
    const above: Above[] = [];
    for (const manifest of chain) {
      above.push({ records: await this.#look(manifest, above, held) });
    }
    if (isChainWhole) return;
    const lowest = chain.at(-1)!;
    this.#find(`backup ${lowest.backupId} stands on ${lowest.parentBackupId}, which is not there`);
    await this.#addDamage(0, lowest.sizeBytes, above);
  }

  /** Returns the checksums, for those that come below. */
  async #look(
    manifest: Manifest,
    above: readonly Above[],
    held: AsyncDisposableStack,
  ): Promise<SumsReader | undefined> {
    const { image } = this.#options.filesOf(manifest.backupId);
    const records = await this.#openSums(manifest, held);
    const faults: ClusterFault[] = [];
    try {
      await this.#check(manifest, image);
      const layer = held.adopt(await openLayer(image), node => node.close());
      // A merge that was begun with one that leaves the chain has made it as large as its child.
      const isAsLarge = manifest.hidden
        ? layer.sizeBytes >= manifest.sizeBytes
        : layer.sizeBytes === manifest.sizeBytes;
      if (!isAsLarge) {
        this.#find(`${manifest.backupId}: the image has ${layer.sizeBytes} bytes, not ${manifest.sizeBytes}`);
      }
      await compareWithSums({
        image: cutTo(layer, manifest.sizeBytes),
        records,
        onFault: fault => faults.push(fault),
        pace: async step => {
          await this.#assertThere(manifest, faults);
          await this.#takeFaults(manifest, faults.splice(0), above);
          await this.#options.pace(step);
        },
      });
      await this.#assertThere(manifest, faults);
      await this.#takeFaults(manifest, faults, above);
    } catch (error) {
      if (isCancel(error) || this.#isAway) throw error;
      await assertDamage(image, error);
      this.#find(`${manifest.backupId}: ${textOf(error)}`);
      await this.#takeFaults(manifest, [wholeDisk(manifest, error)], above);
    }
    return records;
  }

  async #check({ backupId }: Manifest, imagePath: string): Promise<void> {
    const file = await FileNode.open(imagePath, { readOnly: true });
    try {
      const { corruptions, checkErrors, findings } = await checkQcow2(file);
      if (corruptions + checkErrors > 0) this.#find(`${backupId}: the image is damaged: ${findings[0]}`);
    } finally {
      await file.close();
    }
  }

  /** Undefined where there are none that could be trusted. */
  async #openSums(manifest: Manifest, held: AsyncDisposableStack): Promise<SumsReader | undefined> {
    const { backupId, sizeBytes, sums } = manifest;
    if (sums === null) return undefined;
    const path = this.#options.filesOf(backupId).sums;
    try {
      const file = held.adopt(await FileNode.open(path, { readOnly: true }), node => node.close());
      if (file.sizeBytes === sumsBytes(sizeBytes) && (await sumsDigest(file)) === sums.digest) {
        return new SumsReader(file, recordsOf(sizeBytes));
      }
      this.#find(`${backupId}: its checksums are damaged`);
    } catch (error) {
      await assertDamage(path, error);
      this.#find(`${backupId}: its checksums cannot be read: ${textOf(error)}`);
    }
    return undefined;
  }

  async #takeFaults(
    manifest: Manifest,
    faults: readonly ClusterFault[],
    above: readonly Above[],
  ): Promise<void> {
    for (const { kind, offset, length, message } of faults) {
      const shows = await this.#addDamage(offset, length, above);
      // What its child has itself may have been merged into it already.
      if (manifest.hidden && !shows) continue;
      this.#find(`${manifest.backupId}: at ${offset}, ${kind}: ${message}`);
    }
  }

  /** A disk that goes away in the middle makes all that follows unreadable. */
  async #assertThere({ backupId }: Manifest, faults: readonly ClusterFault[]): Promise<void> {
    const unreadable = faults.find(({ kind }) => kind === 'unreadable');
    if (unreadable === undefined) return;
    const { message } = unreadable;
    const { image } = this.#options.filesOf(backupId);
    await assertDamage(image, new EngineError('io', message, { path: image })).catch((error: unknown) => {
      this.#isAway = true;
      throw error;
    });
  }

  /** What is newer hides what is below it; false where it hides all of it. */
  async #addDamage(offset: number, length: number, above: readonly Above[]): Promise<boolean> {
    const end = Math.min(offset + length, this.#disk.sizeBytes);
    let shows = false;
    for (let at = offset; at < end; at += WINDOW_BYTES) {
      shows = (await this.#addWindow(at, Math.min(end, at + WINDOW_BYTES), above)) || shows;
    }
    return shows;
  }

  async #addWindow(from: number, to: number, above: readonly Above[]): Promise<boolean> {
    let shows = false;
    const first = from / CLUSTER_BYTES;
    const count = Math.ceil(to / CLUSTER_BYTES) - first;
    // Where a newer backup has no checksums, nobody knows what it hides: it counts as damage then.
    const newer = await Promise.all(
      above.map(async ({ records }) => {
        const there = Math.min(count, Math.max(0, (records?.count ?? 0) - first));
        return there === 0 ? Buffer.alloc(0) : records!.records(first, there);
      }),
    );
    const damaged = this.#disk;
    for (let index = 0; index < count; index++) {
      const start = index * RECORD_BYTES;
      const isHidden = newer.some(
        records => start < records.length && !isNothing(records.subarray(start, start + RECORD_BYTES)),
      );
      const at = from + index * CLUSTER_BYTES;
      if (isHidden) continue;
      shows = true;
      if (damaged.nextZero(at, at + 1) < 0) continue;
      const length = Math.min(CLUSTER_BYTES, to - at);
      damaged.set(at, length);
      this.#options.damage.add(at, length);
    }
    return shows;
  }

  #find(text: string): void {
    this.#count++;
    if (this.#findings.length < FINDINGS_MAX) this.#findings.push(text);
  }
}

/** What lies beyond has no checksums. */
function cutTo(layer: BlockNode, sizeBytes: number): CompareOptions['image'] {
  return {
    sizeBytes: Math.min(layer.sizeBytes, sizeBytes),
    read: (offset, bytes) => layer.read(offset, bytes),
    extents: (offset, length) => layer.extents(offset, length),
  };
}

function wholeDisk({ sizeBytes }: Manifest, error: unknown): ClusterFault {
  return { kind: 'unreadable', offset: 0, length: sizeBytes, message: textOf(error) };
}

function isCancel(error: unknown): boolean {
  return (error as { kind?: unknown } | null)?.kind === 'cancelled';
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
