// The main job from start to end, as a client of a running system: a live disk, three checkpoints in backups on
// another storage node, each restored twice and proven equal.

import { setTimeout as delay } from 'node:timers/promises';
import type { StackNode } from '../stack/stack.ts';
import { type DiskHash, hashDisk } from './disk-hash.ts';
import { openExport, openFile } from './disk-reader.ts';
import { type Display, seconds, size } from './display.ts';
import type { FilesystemImage } from './filesystem-image.ts';
import { writeImage } from './image-writer.ts';
import {
  DISK_BYTES,
  FILESYSTEM,
  WRITER_AFTER_MS,
  WRITER_ALONE_MS,
  WRITER_REGION,
  WRITES_IN_FLIGHT,
  WRITES_MAX,
} from './layout.ts';
import { type Backup, type RestClient, type Run, secondsOf, type Volume } from './rest-client.ts';
import type { Expectation } from './restore-check.ts';
import { BLOCK_BYTES } from './stamped-block.ts';
import { Speedometer, StampedWriter } from './stamped-writer.ts';

const MB = 1_000_000;
const DISK = 'disk1';
const REPOSITORY = 'vault';

export interface DemoOptions {
  readonly rest: RestClient;
  /** Where the disk lives, and where its backups go. */
  readonly source: StackNode;
  readonly vault: StackNode;
  readonly image: FilesystemImage;
  readonly display: Display;
  readonly signal: AbortSignal;
}

/** A checkpoint that was taken and backed up, and what its restores must be. */
export interface Taken {
  readonly expectation: Expectation;
  readonly backup: Backup;
  readonly seconds: number;
}

export class Demo {
  readonly #options: DemoOptions;
  #uri = '';
  #writer: StampedWriter | null = null;

  constructor(options: DemoOptions) {
    this.#options = options;
  }

  /** The disk's writer; it has stopped unless a backup is being taken. */
  get writer(): StampedWriter {
    if (this.#writer === null) throw new Error('the disk is not there yet');
    return this.#writer;
  }

  /** Registers the storage nodes, makes the disk with its filesystem, and the repository. */
  async prepare(): Promise<void> {
    const { rest, source, vault, image, display, signal } = this.#options;
    for (const { name, controlAddress } of [source, vault]) {
      await rest.post('/v1/storage-nodes', { name, controlAddress }, 'done');
    }
    display.done('registered', `storage nodes ${source.name} and ${vault.name}`);
    const volume = { name: DISK, storageNode: source.name, sizeBytes: DISK_BYTES };
    await rest.post('/v1/volumes', volume, 'done');
    this.#uri = (await rest.get<Volume>(`/v1/volumes/${DISK}`)).exportUri!;
    display.done(`volume ${DISK}`, `${size(DISK_BYTES)} on ${source.name}, ${this.#uri}`);
    const started = performance.now();
    const write = { uri: this.#uri, offset: FILESYSTEM.offset, image: image.path, previous: null, signal };
    const sent = await writeImage(write);
    const took = (performance.now() - started) / 1000;
    const files = `${image.format} with ${image.tree.count.toLocaleString('en')} files of this checkout`;
    display.done('written over NBD', `${files}, ${size(sent)} in ${seconds(took)}`);
    await rest.post('/v1/repositories', { name: REPOSITORY, storageNode: vault.name }, 'done');
    display.done(`repository ${REPOSITORY}`, `on ${vault.name}`);
    this.#writer = StampedWriter.create({
      uri: this.#uri,
      region: WRITER_REGION,
      inFlight: WRITES_IN_FLIGHT,
      writesMax: WRITES_MAX,
      seed: 20_240_229,
    });
  }

  /** Changes files, makes a new image of them and writes what differs to the disk. */
  async changeFiles(day: string): Promise<void> {
    const { image, display, signal } = this.#options;
    const previous = image.path;
    const { edited, added, removed } = await image.change(day, signal);
    const offset = FILESYSTEM.offset;
    const sent = await writeImage({ uri: this.#uri, offset, image: image.path, previous, signal });
    const files = `${edited.length} files edited, ${added.length} added, ${removed.length} removed`;
    display.done('changed over NBD', `${files}: ${size(sent)} of blocks`);
  }

  /** Takes the checkpoint and its backup in one request; with `busy`, while the writer writes. */
  async backUp(day: string, { kind, busy }: { kind: 'full' | 'incremental'; busy: boolean }): Promise<Taken> {
    const { rest, image, display, signal } = this.#options;
    const { history } = this.writer;
    const hashes = await this.#hashSource();
    const speed = await this.#startWriter(busy);
    const alone = speed.look();
    const body = { volume: DISK, repository: REPOSITORY, kind, checkpoint: day };
    const requested = history.now();
    const accepted = await rest.post<{ run: Run; backup: Backup }>('/v1/backups', body, 'checkpoint');
    const replied = history.now();
    const enough = delay(busy ? WRITER_AFTER_MS : 0, undefined, { signal });
    enough.catch(() => {}); // told below
    const run = await this.follow(`backup ${day}`, accepted.run);
    const during = speed.look();
    await enough;
    if (busy) await this.writer.stop();
    const backup = await rest.get<Backup>(`/v1/backups/${accepted.backup.id}`);
    const took = secondsOf(run);
    display.done(
      `backup ${day}`,
      `${backup.kind}, ${size(backup.sentBytes)} sent in ${seconds(took)} (${backup.reason})`,
    );
    if (busy) display.detail(`meanwhile the disk took ${rate(during)}; before the backup ${rate(alone)}`);
    const { path } = image;
    return {
      expectation: {
        checkpoint: day,
        hashes,
        written: busy ? WRITER_REGION : null,
        region: WRITER_REGION,
        instant: { requested, replied },
        beginning: { open: () => openFile(path) },
      },
      backup,
      seconds: took,
    };
  }

  /** Resolves with the export of the new volume. */
  async restoreToVolume(day: string): Promise<{ uri: string; seconds: number }> {
    const { rest, source } = this.#options;
    const name = `${DISK}-${day}`;
    const run = await this.#restore(`${day} to a volume`, day, {
      volume: { name, storageNode: source.name },
    });
    const { exportUri } = await rest.get<Volume>(`/v1/volumes/${name}`);
    return { uri: exportUri!, seconds: secondsOf(run) };
  }

  /** Resolves with the path of the new file. */
  async restoreToFile(day: string): Promise<{ path: string; seconds: number }> {
    const name = `${DISK}-${day}.raw`;
    const file = { name, storageNode: this.#options.vault.name };
    const run = await this.#restore(`${day} to a file`, day, { file });
    const path = run.result?.filePath;
    if (typeof path !== 'string') throw new Error(`run ${run.id} does not say where its file is`);
    return { path, seconds: secondsOf(run) };
  }

  /** Ends the writer. May be called again. */
  async close(): Promise<void> {
    await this.#writer?.close();
  }

  /** Shows the run's progress until it has succeeded. */
  async follow(label: string, started: Run): Promise<Run> {
    const progress = this.#options.display.progress(label);
    try {
      return await this.#options.rest.follow(started.id, run => {
        progress.update(run.progress.currentBytes, run.progress.totalBytes);
      });
    } finally {
      progress.end();
    }
  }

  async #restore(label: string, checkpoint: string, target: object): Promise<Run> {
    const body = { volume: DISK, checkpoint, target };
    const { run } = await this.#options.rest.post('/v1/restores', body, 'accepted');
    return this.follow(label, run);
  }

  /** Nothing writes now: what is read is the disk of this moment. */
  async #hashSource(): Promise<DiskHash> {
    const disk = await openExport(this.#uri);
    try {
      return await hashDisk(disk, this.#options.signal);
    } finally {
      await disk.close();
    }
  }

  async #startWriter(busy: boolean): Promise<Speedometer> {
    if (busy) await this.writer.start();
    const speed = new Speedometer(this.writer.history);
    if (busy) await delay(WRITER_ALONE_MS, undefined, { signal: this.#options.signal });
    return speed;
  }
}

function rate({ writes, seconds: took }: { writes: number; seconds: number }): string {
  const perSecond = Math.round(writes / took).toLocaleString('en');
  return `${perSecond} writes/s (${((writes * BLOCK_BYTES) / took / MB).toFixed(0)} MB/s)`;
}
