// The local file that keeps what guests overwrite while a moment is frozen: thin, bounded, and gone with the
// moment. It survives nothing, so that nothing of it is ever waited for.
import { rm, truncate } from 'node:fs/promises';
import { type BlockGraph, createQcow2, openImage } from '@tidemark/engine';
import { diskSpace, storedBytes } from './disk-space.ts';
import { QuotaNode } from './quota-node.ts';
import { SpaceBudget } from './space-budget.ts';
import type { StateStore } from './state-store.ts';

export const SCRATCH_FOLDER = 'scratch';

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
  /** 0: half of what the file system has free. */
  readonly limitBytes: number;
}

export class MomentScratch {
  /** Of its block node. */
  readonly name: string;
  readonly #host: ScratchHost;
  readonly #path: string;
  #isRemoved = false;

  private constructor(host: ScratchHost, { name, path }: { name: string; path: string }) {
    this.#host = host;
    this.name = name;
    this.#path = path;
  }

  /** Rejects with nothing left behind. */
  static async create(host: ScratchHost, options: ScratchOptions): Promise<MomentScratch> {
    const { momentId, sizeBytes } = options;
    const { graph, store } = host;
    await store.makeFolder(SCRATCH_FOLDER);
    const path = store.path(`${SCRATCH_FOLDER}/${momentId}${SUFFIX}`);
    const limitBytes = options.limitBytes || (await shareOfFreeSpace(store.path(SCRATCH_FOLDER)));
    await rm(path, { force: true });
    await createQcow2(path, { sizeBytes });
    const name = `scratch-${momentId}`;
    try {
      const image = await openImage(path, { readOnly: false, format: 'qcow2' });
      const budget = new SpaceBudget(limitBytes);
      graph.add({ name }, () => new QuotaNode(image, { budget, owner: 'The scratch' }));
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
    return new MomentScratch(host, { name, path });
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

async function shareOfFreeSpace(folder: string): Promise<number> {
  return Math.floor((await diskSpace(folder)).availableBytes * FREE_SPACE_SHARE);
}
