// One file of a backup that is being written: hidden, exported for writing under a name that nobody guesses.
//
//   writable ─► closed (durable) ─► named        and from anywhere ─► removed
import { randomBytes } from 'node:crypto';
import type { BlockNode } from '@tidemark/engine';
import type { NbdExports } from '../exports/nbd-exports.ts';
import type { StateStore } from '../host/state-store.ts';
import { QuotaNode } from './quota-node.ts';
import type { SpaceReservation } from './space-reservation.ts';

/** Export names nobody guesses: who has the URI may write. */
const EXPORT_NAME_BYTES = 16;

export function unguessableName(): string {
  return randomBytes(EXPORT_NAME_BYTES).toString('hex');
}

interface OpenedFile {
  readonly node: BlockNode;
  readonly image: BlockNode;
}

interface PartialFileOptions {
  readonly store: StateStore;
  readonly exports: NbdExports;
  readonly space: SpaceReservation;
  /** Names in the state store. */
  readonly names: { readonly partial: string; readonly final: string };
  /** Makes the file; where it rejects, the file may be there. */
  readonly create: (path: string) => Promise<void>;
  /** What is written through, and what is closed in the end. */
  readonly open: (path: string) => Promise<OpenedFile>;
  /** Most bytes that a written byte takes on the file system; default: the image's clusters. */
  readonly blockBytes?: number;
}

export class PartialFile {
  readonly uri: string;
  readonly #options: PartialFileOptions;
  readonly #node: QuotaNode;
  readonly #image: BlockNode;
  readonly #exportName: string;
  #state: 'writable' | 'closed' | 'named' | 'broken' = 'writable';

  private constructor(options: PartialFileOptions, { node, image }: OpenedFile) {
    const { space, blockBytes, exports } = options;
    const quota = { budget: space, ...(blockBytes !== undefined && { clusterBytes: blockBytes }) };
    this.#options = options;
    this.#node = new QuotaNode(node, quota);
    this.#image = image;
    this.#exportName = unguessableName();
    this.uri = exports.add({ name: this.#exportName, listed: false, node: this.#node });
  }

  /** Makes file and export. Rejects with what the file says; nothing stays then. */
  static async create(options: PartialFileOptions): Promise<PartialFile> {
    const { store, names } = options;
    const path = store.path(names.partial);
    let opened: OpenedFile | undefined;
    try {
      await options.create(path);
      opened = await options.open(path);
      return new PartialFile(options, opened);
    } catch (error) {
      await opened?.image.close().catch(() => undefined);
      await store.remove(names.partial);
      throw error;
    }
  }

  get isWritable(): boolean {
    return this.#state === 'writable';
  }

  /** What was written could not be made durable: there is nothing to be done with it. */
  get isBroken(): boolean {
    return this.#state === 'broken';
  }

  /** To write to here, as those do who are connected to the export. Not after `close`. */
  get node(): BlockNode {
    return this.#node;
  }

  /** Nobody has written to it. */
  get isUntouched(): boolean {
    return this.#node.isUntouched;
  }

  /** Where it lies now. */
  get path(): string {
    const { store, names } = this.#options;
    return store.path(this.#state === 'named' ? names.final : names.partial);
  }

  /** Ends the export and closes the file durably. Rejects where that fails: the file is broken then. */
  async close(): Promise<void> {
    if (this.#state !== 'writable') return;
    await this.#options.exports.remove(this.#exportName, { mode: 'hard' });
    // Whatever fails from here on, the file is no longer one that can be written to.
    this.#state = 'broken';
    try {
      await this.#node.flush();
    } finally {
      await this.#image.close();
    }
    this.#state = 'closed';
  }

  /** Gives the closed file its final name, durably. Good to repeat. */
  async name(): Promise<void> {
    if (this.#state !== 'closed') return;
    const { store, names } = this.#options;
    await store.publishFile(names.partial, names.final);
    this.#state = 'named';
  }

  /** Removes whatever is there. Good to repeat. */
  async remove(): Promise<void> {
    const { store, names } = this.#options;
    // The file goes: that its last metadata cannot be written any more does not matter.
    await this.close().catch(() => undefined);
    await store.remove(names.partial);
    await store.remove(names.final);
  }
}
