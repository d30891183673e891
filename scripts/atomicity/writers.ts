// Guests with causally ordered writes over all hosts: a number goes to the next host's volume only when the one before
// has acknowledged it. A connection that its storage node has closed is made again, and the number written once more;
// one that is merely silent is waited for: its request may still be on its way.
import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '@tidemark/nbd';
import { blockOf } from '../../apps/storage-node/src/testing/causal-writers.ts';
import type { Host } from './host.ts';
import { RETRY_MS, VOLUME_BYTES, WRITER_PAUSE_MS } from './limits.ts';

interface Wait {
  readonly fromMs: number;
  readonly untilMs: number;
}

export class Writers {
  readonly #hosts: readonly Host[];
  readonly #blockBytes: number;
  readonly #waits: Wait[] = [];
  #stopping = false;
  #running: Promise<unknown> = Promise.resolve();
  /** Numbers that have gone over all hosts. */
  rounds = 0;
  writes = 0;

  constructor(hosts: readonly Host[], chains: number) {
    this.#hosts = hosts;
    this.#blockBytes = blockOf(0).length;
    if (chains * this.#blockBytes > VOLUME_BYTES) throw new Error(`${chains} writers do not fit on a volume`);
    const all = Array.from({ length: chains }, (_, index) => this.#write(index));
    this.#running = Promise.all(all);
    this.#running.catch(() => undefined);
  }

  /** Those of requests since the last time; requests that were disturbed otherwise are left out. */
  longestWaitMs(disturbed: readonly Wait[]): number {
    const isFree = ({ fromMs, untilMs }: Wait) =>
      !disturbed.some(other => fromMs <= other.untilMs && other.fromMs <= untilMs);
    const waits = this.#waits.splice(0).filter(isFree);
    return waits.reduce((most, { fromMs, untilMs }) => Math.max(most, untilMs - fromMs), 0);
  }

  /** Rejects with what broke one of them. All hosts have to serve. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  async #write(index: number): Promise<void> {
    const guests: (NbdClient | undefined)[] = this.#hosts.map(() => undefined);
    try {
      for (let number = 1; !this.#stopping; number++) {
        for (const [place, host] of this.#hosts.entries()) {
          await this.#writeOne(guests, { place, host, index, number });
        }
        this.rounds++;
        await delay(WRITER_PAUSE_MS);
      }
    } finally {
      for (const guest of guests) void guest?.disconnect().catch(() => undefined);
    }
  }

  async #writeOne(
    guests: (NbdClient | undefined)[],
    { place, host, index, number }: { place: number; host: Host; index: number; number: number },
  ): Promise<void> {
    for (;;) {
      try {
        guests[place] ??= await NbdClient.connect({ uri: host.volume.exportUri });
        const fromMs = performance.now();
        await guests[place].write(index * this.#blockBytes, blockOf(number));
        this.#waits.push({ fromMs, untilMs: performance.now() });
        this.writes++;
        return;
      } catch {
        guests[place] = undefined;
        await delay(RETRY_MS);
      }
    }
  }
}
