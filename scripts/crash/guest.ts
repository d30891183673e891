// A guest of one disk: writes, zeroes and flushes over NBD, and tells the model of each. When its storage node dies
// it comes back as soon as it can, reads what is left, and goes on.
import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '@tidemark/nbd';
import type { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { writeStamp } from '../demo/stamped-block.ts';
import { readContents } from './contents.ts';
import { type Change, type DiskModel, describeFaults, ZEROES } from './disk-model.ts';
import {
  BLOCK_BYTES,
  BLOCKS_OF_A_GRANULE,
  DISK_REGIONS,
  GUEST_PAUSE_MS_MAX,
  LANES,
  POLL_MS,
  REGION_CHANCE,
  REGION_GRANULES,
  SETTLE_MS,
  ZONE_GRANULES_MAX,
  ZONE_PLACE_GRANULES,
  ZONE_STRIDE_GRANULES,
  ZONES,
} from './limits.ts';

import { TouchedRegions } from './touched-regions.ts';

const WRITE_BLOCKS_MAX = 6;

interface Zone {
  readonly firstBlock: number;
  readonly blocks: number;
}

export class Guest {
  readonly model: DiskModel;
  /** What it found wrong; each is a failure of the round. */
  readonly faults: string[] = [];
  readonly regions = new TouchedRegions();
  readonly #uri: string;
  readonly #random: SeededRandom;
  readonly #busy = new Set<number>();
  #client: NbdClient | undefined;
  #zones: Zone[] = [];
  #region: number;
  /** Of the lanes that run, or would if they were connected. Null: it pauses. */
  #turn: { isOver: boolean } | null = null;
  /** Between `start` and `rest`. */
  #isOn = false;
  #lanes: Promise<unknown> = Promise.resolve();
  #recovery: Promise<void> | undefined;
  #losses = 0;
  #slowestMs = 0;
  /** The model's clock when the storage node last answered. */
  #aliveAt = 0;
  #aliveAtMs = 0;

  constructor(options: { uri: string; model: DiskModel; random: SeededRandom }) {
    this.#uri = options.uri;
    this.model = options.model;
    this.#random = options.random;
    this.#region = options.random.int(0, DISK_REGIONS - 1);
  }

  /** How often its storage node went away under it. */
  get losses(): number {
    return this.#losses;
  }

  /** The longest that a request took. */
  get slowestMs(): number {
    return this.#slowestMs;
  }

  /** Chooses where it writes from now on. */
  move(): void {
    if (this.#random.chance(REGION_CHANCE)) this.#region = this.#random.int(0, DISK_REGIONS - 1);
    this.#zones = Array.from({ length: ZONES }, () => {
      const granules = this.#random.int(1, ZONE_GRANULES_MAX);
      const place = this.#random.int(0, REGION_GRANULES / ZONE_STRIDE_GRANULES - 1) * ZONE_STRIDE_GRANULES;
      const first =
        this.#region * REGION_GRANULES + place + this.#random.int(0, ZONE_PLACE_GRANULES - granules);
      return { firstBlock: first * BLOCKS_OF_A_GRANULE, blocks: granules * BLOCKS_OF_A_GRANULE };
    });
  }

  async start(): Promise<void> {
    await this.#recovery;
    this.#client ??= await NbdClient.connect({ uri: this.#uri });
    this.#isOn = true;
    this.resume();
  }

  /** Goes on after a pause, unless it is to rest by now. */
  resume(): void {
    if (!this.#isOn || this.#turn !== null) return;
    this.#turn = { isOver: false };
    if (this.#client !== undefined) this.#runLanes(this.#turn);
  }

  /** Resolves when nothing of before is under way, also when somebody else lets it go on meanwhile. */
  async pause(): Promise<void> {
    this.#endTurn();
    await this.#lanes;
  }

  #endTurn(): void {
    if (this.#turn !== null) this.#turn.isOver = true;
    this.#turn = null;
  }

  /** The same, and everything written is durable and known. Rejects when the storage node does not come back. */
  async rest(): Promise<void> {
    this.#isOn = false;
    await this.pause();
    await this.#recovery;
    while (this.faults.length === 0) {
      try {
        this.#client ??= await NbdClient.connect({ uri: this.#uri });
        await this.#flush(this.#client);
        return;
      } catch {
        this.#lose();
        await this.#recovery;
      }
    }
    throw new Error(this.faults.join('; '));
  }

  /** Reads the disk as it is. */
  async read(): Promise<Uint32Array> {
    this.#client ??= await NbdClient.connect({ uri: this.#uri });
    const client = this.#client;
    return readContents((offset, buffer) => client.read(offset, buffer));
  }

  async close(): Promise<void> {
    this.#isOn = false;
    this.#endTurn();
    this.#client?.destroy();
    this.#client = undefined;
    await this.#lanes;
  }

  #runLanes(turn: { readonly isOver: boolean }): void {
    const client = this.#client!;
    const before = this.#lanes;
    this.#lanes = Promise.all([before, ...Array.from({ length: LANES }, () => this.#lane(client, turn))]);
  }

  async #lane(client: NbdClient, turn: { readonly isOver: boolean }): Promise<void> {
    const random = this.#random;
    try {
      while (!turn.isOver && this.#client === client) {
        const dice = random.int(1, 100);
        if (dice <= 8) await this.#flush(client);
        else if (dice <= 20) await this.#zero(client);
        else await this.#write(client);
        await delay(random.int(0, GUEST_PAUSE_MS_MAX));
      }
    } catch {
      if (this.#client === client) this.#lose();
    }
  }

  async #write(client: NbdClient): Promise<void> {
    const blocks = this.#take(this.#random.int(1, WRITE_BLOCKS_MAX));
    const bytes = Buffer.alloc(blocks.length * BLOCK_BYTES);
    const changes = blocks.map((block, index) => {
      const sequence = this.model.nextContent();
      writeStamp(bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES), { sequence, block });
      return this.model.issue(block, sequence);
    });
    await this.#finish(blocks, changes, client.write(blocks[0]! * BLOCK_BYTES, bytes));
  }

  async #zero(client: NbdClient): Promise<void> {
    const blocks = this.#take(this.#random.pick([1, 3, BLOCKS_OF_A_GRANULE, BLOCKS_OF_A_GRANULE + 5]));
    const changes = blocks.map(block => this.model.issue(block, ZEROES));
    const mayUnmap = this.#random.chance(0.5);
    const [offset, length] = [blocks[0]! * BLOCK_BYTES, blocks.length * BLOCK_BYTES];
    await this.#finish(blocks, changes, client.writeZeroes(offset, length, { mayUnmap }));
  }

  async #finish(
    blocks: readonly number[],
    changes: readonly Change[],
    request: Promise<void>,
  ): Promise<void> {
    const sentAt = performance.now();
    try {
      await request;
      this.#slowestMs = Math.max(this.#slowestMs, performance.now() - sentAt);
      for (const change of changes) this.model.acknowledge(change);
      this.#noteAlive();
    } finally {
      for (const block of blocks) this.#busy.delete(block);
    }
  }

  async #flush(client: NbdClient): Promise<void> {
    const requestedAt = this.model.now();
    await client.flush();
    this.model.flushed(requestedAt);
    this.#noteAlive();
  }

  #noteAlive(): void {
    this.#aliveAt = this.model.now();
    this.#aliveAtMs = performance.now();
  }

  /** Neighbouring blocks, at least one, that nothing is under way to. */
  #take(wanted: number): number[] {
    for (;;) {
      const zone = this.#random.pick(this.#zones);
      const first = zone.firstBlock + this.#random.int(0, zone.blocks - 1);
      const blocks: number[] = [];
      for (let block = first; block < this.model.blocks && blocks.length < wanted; block += 1) {
        if (this.#busy.has(block)) break;
        blocks.push(block);
      }
      if (blocks.length === 0) continue;
      for (const block of blocks) {
        this.#busy.add(block);
        this.regions.touch(block, performance.now());
      }
      return blocks;
    }
  }

  #lose(): void {
    this.#losses += 1;
    this.#client?.destroy();
    this.#client = undefined;
    this.#recovery ??= this.#recover().finally(() => {
      this.#recovery = undefined;
    });
  }

  /** Nothing of before is under way once the connection is gone: its server is dead. */
  async #recover(): Promise<void> {
    await this.#lanes;
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      try {
        const client = await NbdClient.connect({ uri: this.#uri });
        const contents = await readContents((offset, buffer) => client.read(offset, buffer));
        const faults = this.model.settle(contents, this.#aliveAt);
        this.regions.crashed(this.model.now(), this.#aliveAtMs);
        if (faults.length > 0) this.faults.push(`after a crash: ${describeFaults(faults)}`);
        this.model.flushed(this.model.now());
        this.#client = client;
        if (this.#turn !== null) this.#runLanes(this.#turn);
        return;
      } catch (error) {
        if (performance.now() > deadline) {
          this.faults.push(`the guest does not come back to ${this.#uri}: ${String(error)}`);
          return;
        }
        await delay(POLL_MS);
      }
    }
  }
}
