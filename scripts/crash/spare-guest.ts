// A guest of a small volume that is moved away under it: writes and flushes one block after the other, comes again
// where the volume is by then, and knows what has to be read of it.
import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '@tidemark/nbd';
import type { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { readStamp, writeStamp } from '../demo/stamped-block.ts';
import { BLOCK_BYTES, POLL_MS, SPARE_BYTES } from './limits.ts';

const BLOCKS = SPARE_BYTES / BLOCK_BYTES;

/** Where the volume is exported now; undefined: nobody says so. */
type Find = () => Promise<string | undefined>;

export class SpareGuest {
  readonly #find: Find;
  readonly #random: SeededRandom;
  /** The newest write of each block that was flushed, and the newest that was sent. */
  readonly #flushed = new Uint32Array(BLOCKS);
  readonly #sent = new Uint32Array(BLOCKS);
  #sequence = 0;
  #connections = 0;
  #isOn = false;
  #running: Promise<void> = Promise.resolve();

  constructor(find: Find, random: SeededRandom) {
    this.#find = find;
    this.#random = random;
  }

  /** Writes that were flushed, and how often it had to connect. */
  get told(): { writes: number; connections: number } {
    return { writes: this.#flushed.filter(sequence => sequence > 0).length, connections: this.#connections };
  }

  start(): void {
    this.#isOn = true;
    this.#running = this.#run();
  }

  /** Resolves when it sends nothing any more. */
  async stop(): Promise<void> {
    this.#isOn = false;
    await this.#running;
  }

  /** Reads all of it, at rest. Rejects when it cannot be read. */
  async check(): Promise<string[]> {
    const uri = await this.#find();
    if (uri === undefined) return ['it is exported nowhere'];
    const client = await NbdClient.connect({ uri });
    try {
      const disk = Buffer.alloc(SPARE_BYTES);
      await client.read(0, disk);
      return this.faultsOf(disk);
    } finally {
      await client.disconnect();
    }
  }

  faultsOf(disk: Buffer): string[] {
    const faults: string[] = [];
    for (let block = 0; block < BLOCKS; block += 1) {
      const stamp = readStamp(disk.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
      const [flushed, sent] = [this.#flushed[block]!, this.#sent[block]!];
      if (stamp === 'damaged' || (stamp !== 'blank' && stamp.block !== block)) {
        faults.push(`block ${block} is damaged`);
        continue;
      }
      const sequence = stamp === 'blank' ? 0 : stamp.sequence;
      if (sequence < flushed || sequence > sent)
        faults.push(`block ${block} has write ${sequence}, not ${flushed} to ${sent}`);
    }
    return faults;
  }

  async #run(): Promise<void> {
    while (this.#isOn) {
      const uri = await this.#find().catch(() => undefined);
      const client = uri === undefined ? undefined : await NbdClient.connect({ uri }).catch(() => undefined);
      if (client !== undefined) await this.#write(client).catch(() => client.destroy());
      await delay(POLL_MS);
    }
  }

  /** Rejects when the connection ends. */
  async #write(client: NbdClient): Promise<void> {
    this.#connections += 1;
    const bytes = Buffer.alloc(BLOCK_BYTES);
    while (this.#isOn) {
      const block = this.#random.int(0, BLOCKS - 1);
      this.#sequence += 1;
      const sequence = this.#sequence;
      writeStamp(bytes, { sequence, block });
      this.#sent[block] = sequence;
      await client.write(block * BLOCK_BYTES, bytes);
      await client.flush();
      this.#flushed[block] = sequence;
      await delay(POLL_MS);
    }
    await client.disconnect();
  }
}
