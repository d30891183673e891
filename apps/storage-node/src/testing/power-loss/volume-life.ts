// One life of a storage node's volume in simulated files: guests write and flush while an operator makes and deletes
// checkpoints and takes snapshots, and while bits are stored in the background.
import { randomUUID } from 'node:crypto';
import {
  type Attachment,
  BlockGraph,
  PERMISSION,
  PERMISSIONS_ALL,
  SECTOR_BYTES,
  type TransactionAction,
} from '@tidemark/engine';
import { ManualClock, type SeededRandom } from '@tidemark/engine/testing';
import { NbdExports } from '../../exports/nbd-exports.ts';
import type { Files } from '../../host/files.ts';
import { JobRunner } from '../../host/job-runner.ts';
import { StateStore } from '../../host/state-store.ts';
import { StreamRunner } from '../../restore/stream-runner.ts';
import { Volume, type VolumeHost } from '../../volume/volume.ts';
import { VolumeLayout, type VolumeRecord, volumeSchema } from '../../volume/volume-record.ts';
import { type Contents, type GuestDisk, numbersIn, sectorsWith } from './guest-disk.ts';
import type { SimulatedFiles } from './simulated-files.ts';

export const VOLUME_ID = '00000000-0000-4000-8000-000000000001';
export const VOLUME_BYTES = 1024 * 1024;
export const REGION_BYTES = 64 * 1024;
const GRANULARITY_BYTES = 4096;
export const STATE_FOLDER = '/state';

const SECTORS = VOLUME_BYTES / SECTOR_BYTES;
const IN_FLIGHT_MAX = 6;

/** What outlives a crash, in the heads of those who watch. */
export interface Watched {
  readonly disk: GuestDisk;
  /** By checkpoint, whether or not it came to be. */
  readonly contents: Map<string, Contents>;
}

export function hostOver(
  folder: string,
  files?: Files,
): VolumeHost & { store: StateStore; clock: ManualClock } {
  const graph = new BlockGraph();
  const clock = new ManualClock();
  return {
    graph,
    store: new StateStore({ folder, files }),
    exports: new NbdExports({ listen: { host: '127.0.0.1', port: 0 } }),
    streams: new StreamRunner({ graph, jobs: new JobRunner({ clock, report: () => {} }) }),
    clock,
    intentRegionBytesMin: REGION_BYTES,
  };
}

/** Undefined where the volume does not exist. */
export async function openVolume(host: VolumeHost): Promise<Volume | undefined> {
  const record = await host.store.read(new VolumeLayout(VOLUME_ID).record, volumeSchema);
  return record && Volume.open(host, record);
}

export async function readContents(volume: Volume): Promise<Contents> {
  const bytes = Buffer.alloc(VOLUME_BYTES);
  await volume.node.read(0, bytes);
  return numbersIn(bytes);
}

export class VolumeLife {
  readonly #files: SimulatedFiles;
  readonly #random: SeededRandom;
  readonly #watched: Watched;
  readonly #host: ReturnType<typeof hostOver>;
  readonly #busy = new Set<{ first: number; count: number }>();
  #volume!: Volume;
  #guest!: Attachment;
  #next = 0;
  /** Regions that guests have changed in this life, each since when. */
  readonly #touched = new Map<number, number>();
  /** Entries of the journal when the volume was there, with a record. */
  openedAt = Infinity;

  constructor(files: SimulatedFiles, random: SeededRandom, watched: Watched) {
    this.#files = files;
    this.#random = random;
    this.#watched = watched;
    this.#host = hostOver(STATE_FOLDER, files);
  }

  /** Regions that guests had begun to change by then. */
  touchedBy(moment: number): number[] {
    return [...this.#touched].filter(([, since]) => since < moment).map(([region]) => region);
  }

  async play(format: VolumeRecord['format'], steps: number): Promise<void> {
    await this.#files.makeFolder(STATE_FOLDER);
    await this.#files.sync('');
    const opened = await openVolume(this.#host);
    this.#volume = opened ?? (await makeVolume(this.#host, format));
    this.openedAt = this.#files.journal.length;
    this.#guest = this.#host.graph.attach(this.#volume.node.name, {
      user: 'a guest',
      uses: PERMISSION.consistentRead | PERMISSION.write,
      shares: PERMISSIONS_ALL & ~PERMISSION.resize,
    });
    const ending = new AbortController();
    const time = this.#letTimePass(ending.signal);
    await Promise.all([this.#beGuest(steps), this.#beOperator(Math.ceil(steps / 8))]);
    ending.abort();
    await time;
    await this.#guest.close();
    // Part of what a crash may come into. A log that fails may fail here, too.
    await this.#volume.close().catch((error: unknown) => {
      if (!this.#files.mayFail) throw error;
    });
  }

  async #letTimePass(ended: AbortSignal): Promise<void> {
    while (!ended.aborted) {
      await this.#files.turns();
      await this.#host.clock.advance(this.#random.int(100, 2000));
    }
  }

  async #beGuest(steps: number): Promise<void> {
    const inFlight = new Set<Promise<void>>();
    const start = (request: Promise<void>) => {
      const tracked = request.finally(() => inFlight.delete(tracked));
      inFlight.add(tracked);
    };
    for (let step = 0; step < steps; step++) {
      if (this.#random.chance(0.12)) start(this.#flush());
      else start(this.#write());
      while (inFlight.size > this.#random.int(0, IN_FLIGHT_MAX)) await Promise.race(inFlight);
      if (this.#random.chance(0.1)) await this.#host.clock.advance(this.#random.int(0, 3000));
      else await this.#files.turns();
    }
    await Promise.all(inFlight);
  }

  async #write(): Promise<void> {
    const range = this.#pickRange();
    // Guests do not write to what they are writing to.
    for (const other of this.#busy) {
      if (range.first < other.first + other.count && other.first < range.first + range.count) return;
    }
    const zeroes = this.#random.chance(0.15);
    const number = zeroes ? 0 : this.#watched.disk.nextNumber();
    const [offset, length] = [range.first * SECTOR_BYTES, range.count * SECTOR_BYTES];
    this.#touch(offset, length);
    this.#busy.add(range);
    const write = this.#watched.disk.begin(range, number, this.#files.journal.length);
    if (zeroes) await this.#guest.writeZeroes(offset, length, { mayUnmap: this.#random.chance(0.5) });
    else await this.#guest.write(offset, sectorsWith(number, range.count));
    write.end(this.#files.journal.length);
    this.#busy.delete(range);
  }

  #touch(offset: number, length: number): void {
    for (let at = offset; at < offset + length; at += SECTOR_BYTES) {
      const region = Math.floor(at / REGION_BYTES);
      if (!this.#touched.has(region)) this.#touched.set(region, this.#files.journal.length);
    }
  }

  /** Small ones all over, streams, and now and then one over several regions. */
  #pickRange(): { first: number; count: number } {
    const random = this.#random;
    const count = random.chance(0.05) ? random.int(1, 400) : random.int(1, 24);
    const first = random.chance(0.4) ? this.#next : random.int(0, SECTORS - 1);
    const range = { first: first % SECTORS, count: Math.min(count, SECTORS - (first % SECTORS)) };
    this.#next = range.first + range.count;
    return range;
  }

  async #flush(): Promise<void> {
    const began = this.#files.journal.length;
    await this.#guest.flush();
    this.#watched.disk.flushed(began, this.#files.journal.length);
  }

  async #beOperator(steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) {
      await this.#files.turns();
      const { records } = this.#volume.chain;
      const what = this.#random.int(0, 9);
      if (what < 4 || records.length === 0) await this.#addCheckpoint();
      else if (what < 7) await this.#volume.deleteCheckpoint(this.#random.pick(records).checkpointId);
      else if (what < 8 && this.#volume.record.snapshots.length < 3) await this.#takeSnapshot();
      else await this.#host.clock.advance(this.#random.int(0, 12_000));
    }
  }

  async #addCheckpoint(): Promise<void> {
    const checkpointId = randomUUID();
    const note: TransactionAction = {
      kind: 'note-contents',
      nodes: () => [this.#volume.node],
      prepare: async () => {
        this.#watched.contents.set(checkpointId, await readContents(this.#volume));
        return {};
      },
    };
    const record = {
      checkpointId,
      name: checkpointId,
      createdAtMs: 0,
      granularityBytes: this.#random.pick([GRANULARITY_BYTES, 2 * GRANULARITY_BYTES]),
    };
    await this.#volume.addCheckpoint(record, { actions: [note], undo: async () => {} });
  }

  async #takeSnapshot(): Promise<void> {
    const snapshotId = randomUUID();
    await this.#volume.takeSnapshot({ snapshotId, name: snapshotId, now: () => 0 });
  }
}

export function makeVolume(host: VolumeHost, format: VolumeRecord['format']): Promise<Volume> {
  return Volume.create(host, {
    version: 2,
    volumeId: VOLUME_ID,
    name: 'disk',
    sizeBytes: VOLUME_BYTES,
    format,
    createdAtMs: 0,
    state: 'ready',
    checkpoints: [],
    layers: [],
    snapshots: [],
  });
}
