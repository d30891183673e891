// A volume with checkpoints beside a model of them: which granules were written between any two.
import { randomUUID } from 'node:crypto';
import type { ChangedBlocks } from '@tidemark/proto';
import { BackupPair, withGuest } from './live-volume.ts';
import { newStep, RunningStorageNode } from './running-storage-node.ts';

const KiB = 1024;
export const GRANULE = 64 * KiB;

interface Window {
  readonly id: string;
  readonly written: Set<number>;
}

const sorted = (granules: Iterable<number>): number[] => [...new Set(granules)].sort((a, b) => a - b);

/** The granules of a list of changes. Throws where runs are not in order, or touch each other. */
export function granulesOf(parts: readonly ChangedBlocks[], sizeBytes: number): number[] {
  const granules: number[] = [];
  let end = -1;
  for (const { offset, length } of parts.flatMap(part => part.ranges)) {
    if (offset <= end) throw new Error(`a run at ${offset} comes after one that ends at ${end}`);
    end = offset + length;
    if (end > sizeBytes) throw new Error(`a run ends at ${end}`);
    for (let at = offset; at < end; at += GRANULE) granules.push(at / GRANULE);
  }
  return granules;
}

export class CheckpointModel {
  readonly pair: BackupPair;
  readonly windows: Window[] = [];
  readonly #random: () => number;
  #names = 0;

  private constructor(pair: BackupPair, seed: number) {
    this.pair = pair;
    let state = seed;
    this.#random = () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state / 2 ** 32;
    };
  }

  static async make(seed: number): Promise<CheckpointModel> {
    const nodes = [await RunningStorageNode.start(), await RunningStorageNode.start()] as const;
    return new CheckpointModel(await BackupPair.make(...nodes), seed);
  }

  get volumeId(): string {
    return this.pair.volume.volumeId;
  }

  get ids(): string[] {
    return this.windows.map(({ id }) => id);
  }

  get calls() {
    return this.pair.source.clients.checkpoints;
  }

  async take(name = `c${++this.#names}`): Promise<string> {
    const checkpointId = randomUUID();
    await this.calls.createCheckpoint({ step: newStep(), volumeId: this.volumeId, checkpointId, name });
    this.windows.push({ id: checkpointId, written: new Set() });
    return checkpointId;
  }

  /** A checkpoint that a backup brought with it. */
  adopt(id: string): void {
    this.windows.push({ id, written: new Set() });
  }

  /** Some bytes in so many granules, anywhere; flushed. */
  async write(count: number): Promise<void> {
    const { sizeBytes, volumeId } = this.pair.volume;
    const { exportUri } = await this.pair.source.clients.volumes.getVolume({ volumeId });
    await withGuest(exportUri, async guest => {
      for (let index = 0; index < count; index++) {
        const granule = Math.floor(this.#random() * (sizeBytes / GRANULE));
        const bytes = Buffer.alloc(512, 1 + Math.floor(this.#random() * 255));
        await guest.write(granule * GRANULE + 512 * Math.floor(this.#random() * 128), bytes);
        this.windows.at(-1)?.written.add(granule);
      }
      await guest.flush();
    });
  }

  /** As the storage node is told to; in the model its window goes into the one before. */
  async remove(id: string): Promise<void> {
    await this.calls.deleteCheckpoint({ step: newStep(), volumeId: this.volumeId, checkpointId: id });
    const index = this.ids.indexOf(id);
    const [gone] = this.windows.splice(index, 1);
    for (const granule of gone!.written) this.windows[index - 1]?.written.add(granule);
  }

  /** By the model. */
  expected(since: string, until?: string): number[] {
    const { ids } = this;
    const end = until === undefined ? ids.length : ids.indexOf(until);
    return sorted(this.windows.slice(ids.indexOf(since), end).flatMap(({ written }) => [...written]));
  }

  async changed(since: string, until = ''): Promise<number[]> {
    const { volumeId, sizeBytes } = this.pair.volume;
    const request = { volumeId, sinceCheckpointId: since, untilCheckpointId: until };
    const parts: ChangedBlocks[] = [];
    for await (const part of this.pair.source.clients.listChangedBlocks(request)) parts.push(part);
    return granulesOf(parts, sizeBytes);
  }

  /** Where storage node and model do not agree; empty where they do, for every pair of checkpoints. */
  async differences(): Promise<string[]> {
    const found: string[] = [];
    const summaries = await this.pair.checkpoints();
    if (summaries.map(one => one.checkpointId).join() !== this.ids.join()) found.push('list');
    for (const [index, since] of this.ids.entries()) {
      const now = this.expected(since);
      if (summaries[index]?.changedSinceBytes !== now.length * GRANULE) found.push(`estimate of ${index}`);
      for (const until of [...this.ids.slice(index + 1), '']) {
        const expected = this.expected(since, until || undefined);
        if ((await this.changed(since, until)).join() !== expected.join()) found.push(`${since}..${until}`);
        const ends = { sinceCheckpointId: since, untilCheckpointId: until };
        const count = await this.calls.countChangedBytes({ volumeId: this.volumeId, ...ends });
        if (count.changedBytes !== expected.length * GRANULE) found.push(`bytes of ${since}..${until}`);
      }
    }
    return found;
  }
}
