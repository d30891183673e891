// The local file that keeps what guests overwrite while a moment is frozen: thin, bounded, and gone with the
// moment. It survives nothing, so that nothing of it is ever waited for.
import { rm, truncate } from 'node:fs/promises';
import { type BlockGraph, createQcow2, openImage } from '@tidemark/engine';
import { diskSpace, storedBytes } from '../host/disk-space.ts';
import type { StateStore } from '../host/state-store.ts';
import { QuotaNode } from '../repository/quota-node.ts';
import { SpaceBudget } from '../repository/space-budget.ts';

const SCRATCH_FOLDER = 'scratch';

const SUFFIX = '.qcow2';

/** The share of the free space that a scratch may take where nobody says: guests need the rest. */
const FREE_SPACE_SHARE = 0.5;

export interface ScratchHost {
  readonly graph: BlockGraph;
  readonly store: StateStore;
}

export interface ScratchOptions {
  readonly momentId: string;
  readonly sizeBytes: number;
  /** 0: half of what the file system has free, without what is promised. */
  readonly limitBytes: number;
  /** What other scratches may still take. */
  readonly promisedBytes: number;
}

export class MomentScratch {
  /** Of its block node. */
  readonly name: string;
  readonly #host: ScratchHost;
  readonly #path: string;
  readonly #budget: SpaceBudget;
  #isRemoved = false;

  private constructor(
    host: ScratchHost,
    { name, path, budget }: { name: string; path: string; budget: SpaceBudget },
  ) {
    this.#host = host;
    this.name = name;
    this.#path = path;
    this.#budget = budget;
  }

  /** Rejects with nothing left behind. */
  static async create(host: ScratchHost, options: ScratchOptions): Promise<MomentScratch> {
    const { momentId, sizeBytes } = options;
    const { graph, store } = host;
    await store.makeFolder(SCRATCH_FOLDER);
    const path = store.path(`${SCRATCH_FOLDER}/${momentId}${SUFFIX}`);
    const folder = store.path(SCRATCH_FOLDER);
    const limitBytes = options.limitBytes || (await shareOfFreeSpace(folder, options.promisedBytes));
    const budget = new SpaceBudget(limitBytes);
    const name = `scratch-${momentId}`;
    await rm(path, { force: true });
    try {
      await createQcow2(path, { sizeBytes });
      const image = await openImage(path, { readOnly: false, format: 'qcow2' });
      graph.add({ name }, () => new QuotaNode(image, { budget, owner: 'The scratch' }));
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
    return new MomentScratch(host, { name, path, budget });
  }

  /** Removes what an earlier life of the process left; tells which moments these were. */
  static async removeLeftovers(store: StateStore): Promise<{ momentId: string; bytes: number }[]> {
    const left: { momentId: string; bytes: number }[] = [];
    for (const name of await store.list(SCRATCH_FOLDER)) {
      if (!name.endsWith(SUFFIX)) continue;
      const file = `${SCRATCH_FOLDER}/${name}`;
      left.push({ momentId: name.slice(0, -SUFFIX.length), bytes: await storedBytes(store.path(file)) });
      await store.remove(file);
    }
    return left;
  }

  /** What it may still take of the disk. */
  get leftBytes(): number {
    return this.#isRemoved ? 0 : this.#budget.leftBytes;
  }

  /** What it takes of the disk. */
  async bytes(): Promise<number> {
    return this.#isRemoved ? 0 : storedBytes(this.#path);
  }

  /** Nobody may use the block node any more. Good to repeat. */
  async remove(): Promise<void> {
    if (this.#isRemoved) return;
    this.#isRemoved = true;
    // Emptied first: closing an image writes out what it has.
    await truncate(this.#path, 0).catch(() => undefined);
    await this.#host.graph.remove(this.name).catch(() => undefined);
    await rm(this.#path, { force: true });
  }
}

async function shareOfFreeSpace(folder: string, promisedBytes: number): Promise<number> {
  const { availableBytes } = await diskSpace(folder);
  return Math.floor(Math.max(0, availableBytes - promisedBytes) * FREE_SPACE_SHARE);
}
