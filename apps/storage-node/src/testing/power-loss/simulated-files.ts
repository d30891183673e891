// Files in memory whose every write, sync and change of names is recorded in a journal. Requests take a random number
// of turns, so that others come in between.
import { type BlockNode, type Extent, formatQcow2, type WriteZeroesOptions } from '@tidemark/engine';
import { MemoryNode, type SeededRandom } from '@tidemark/engine/testing';
import type { Files, FolderEntry, NewImage, StateFile } from '../../host/files.ts';
import { type Inode, Journal, type Named, type Surviving } from './journal.ts';

/** Faults that show whether a test would notice that a promise of the files is relied on. */
export interface BrokenPromises {
  /** Writes to files opened as durable are not. */
  readonly durableWrites?: boolean;
  /** Syncs of new files do nothing. */
  readonly syncs?: boolean;
  /** Syncs of folders do nothing. */
  readonly folderSyncs?: boolean;
  /** Flushes of images do nothing. */
  readonly imageFlushes?: boolean;
  /** How likely a write to a file opened as durable fails, having happened or not. */
  readonly failing?: number;
}

const TURNS_MAX = 3;

export class SimulatedFiles implements Files {
  readonly journal = new Journal();
  readonly #random: SeededRandom;
  readonly #broken: BrokenPromises;
  readonly #names = new Map<string, Named>();
  #inodes = 0;

  constructor(options: { random: SeededRandom; broken?: BrokenPromises; from?: Surviving }) {
    this.#random = options.random;
    this.#broken = options.broken ?? {};
    for (const [path, what] of options.from ?? []) this.#adopt(path, what);
  }

  get mayFail(): boolean {
    return this.#broken.failing !== undefined;
  }

  async makeFolder(path: string): Promise<string | undefined> {
    let first: string | undefined;
    for (const at of ancestors(path)) {
      if (this.#names.get(at) === 'folder') continue;
      first ??= at;
      await this.#setNames(at, [[at, 'folder']]);
    }
    return first;
  }

  async list(path: string): Promise<FolderEntry[]> {
    if (this.#names.get(path) !== 'folder') throw missing(path);
    const entries: FolderEntry[] = [];
    for (const [name, what] of this.#names) {
      if (folderOf(name) !== path || what === undefined) continue;
      entries.push({ name: name.slice(path.length + 1), kind: what === 'folder' ? 'folder' : 'file' });
    }
    return entries;
  }

  async sizeBytes(path: string): Promise<number> {
    return this.#inode(path).now.sizeBytes;
  }

  async exists(path: string): Promise<boolean> {
    return this.#names.get(path) !== undefined;
  }

  async read(path: string): Promise<Buffer> {
    return contentOf(this.#inode(path).now);
  }

  async create(path: string): Promise<StateFile> {
    return this.#file(await this.#newFile(path), 'write');
  }

  async open(path: string, how: 'read' | 'write' | 'durable'): Promise<StateFile> {
    return this.#file(this.#inode(path), how);
  }

  async openFolder(path: string): Promise<Pick<StateFile, 'sync' | 'close'>> {
    const sync = () => this.sync(path, this.#broken.folderSyncs);
    return { sync, close: async () => {} };
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#setNames(to, [
      [to, this.#inode(from)],
      [from, undefined],
    ]);
  }

  async remove(path: string): Promise<void> {
    if (this.#names.get(path) !== undefined) await this.#setNames(path, [[path, undefined]]);
  }

  async removeFolder(path: string): Promise<void> {
    for (const name of [...this.#names.keys()].reverse()) {
      if (name === path || name.startsWith(`${path}/`)) await this.remove(name);
    }
  }

  async createImage(path: string, { format, sizeBytes, backing }: NewImage): Promise<void> {
    const image = new SimulatedImage(this, await this.#newFile(path), false);
    if (format === 'raw') await image.resize(sizeBytes);
    else await formatQcow2(image, { sizeBytes, ...(backing && { backing }) });
    await image.flush();
  }

  async openImage(path: string): Promise<BlockNode> {
    return new SimulatedImage(this, this.#inode(path), this.#broken.imageFlushes === true);
  }

  /** By images, too. */
  async write(inode: Inode, offset: number, length: number, bytes: Buffer | undefined): Promise<void> {
    const entry = this.journal.write(inode, offset, length, bytes && Buffer.from(bytes));
    inode.now.write(offset, bytes ?? Buffer.alloc(length));
    await this.turns();
    this.journal.end(entry);
  }

  async resize(inode: Inode, sizeBytes: number): Promise<void> {
    const entry = this.journal.resize(inode, sizeBytes);
    await inode.now.resize(sizeBytes);
    await this.turns();
    this.journal.end(entry);
  }

  async sync(what: Inode | string, broken = false): Promise<void> {
    const began = this.journal.length;
    await this.turns();
    if (!broken) this.journal.synced(what, began);
  }

  async turns(): Promise<void> {
    for (let turn = this.#random.int(0, TURNS_MAX); turn > 0; turn--) {
      await new Promise(resolve => setImmediate(resolve));
    }
  }

  #file(inode: Inode, how: 'read' | 'write' | 'durable'): StateFile {
    const { syncs, durableWrites, failing = 0 } = this.#broken;
    return {
      read: async () => contentOf(inode.now),
      write: async (bytes, offset) => {
        await this.write(inode, offset, bytes.length, Buffer.from(bytes));
        if (how === 'durable' && this.#random.chance(failing)) throw new Error('EIO: i/o error, write');
        if (how === 'durable') await this.sync(inode, durableWrites);
      },
      sync: () => this.sync(inode, syncs),
      close: async () => {},
    };
  }

  async #newFile(path: string): Promise<Inode> {
    const inode = this.#newInode();
    await this.#setNames(path, [[path, inode]]);
    return inode;
  }

  #newInode(): Inode {
    this.#inodes += 1;
    return { id: this.#inodes, now: new MemoryNode({ sizeBytes: 0 }) };
  }

  async #setNames(at: string, names: readonly (readonly [string, Named])[]): Promise<void> {
    const folder = folderOf(at);
    const inFolder = names.map(([path, named]) => [path.slice(folder.length + 1), named] as const);
    const entry = this.journal.rename(folder, inFolder);
    for (const [path, named] of names) this.#names.set(path, named);
    await this.turns();
    this.journal.end(entry);
  }

  /** As if it had been there, durable, for ever. */
  #adopt(path: string, what: MemoryNode | 'folder'): void {
    const inode = what === 'folder' ? what : this.#newInode();
    this.#names.set(path, inode);
    this.journal.end(this.journal.rename(folderOf(path), [[path.slice(folderOf(path).length + 1), inode]]));
    this.journal.synced(folderOf(path), this.journal.length);
    if (inode === 'folder') return;
    const bytes = contentOf(what as MemoryNode);
    inode.now.write(0, bytes);
    this.journal.end(this.journal.write(inode, 0, bytes.length, bytes));
    this.journal.synced(inode, this.journal.length);
  }

  #inode(path: string): Inode {
    const named = this.#names.get(path);
    if (named === undefined || named === 'folder') throw missing(path);
    return named;
  }
}

/** A block node over one of the files. */
class SimulatedImage implements BlockNode {
  readonly driver = 'file';
  readonly readOnly = false;
  readonly requestAlignmentBytes = 1;
  readonly clusterSizeBytes = undefined;
  readonly #files: SimulatedFiles;
  readonly #inode: Inode;
  readonly #broken: boolean;

  constructor(files: SimulatedFiles, inode: Inode, broken: boolean) {
    this.#files = files;
    this.#inode = inode;
    this.#broken = broken;
  }

  get sizeBytes(): number {
    return this.#inode.now.sizeBytes;
  }
  async read(offset: number, buffer: Buffer): Promise<void> {
    await this.#files.turns();
    this.#inode.now.read(offset, buffer);
  }
  write(offset: number, buffer: Buffer): Promise<void> {
    return this.#files.write(this.#inode, offset, buffer.length, buffer);
  }
  writeZeroes(offset: number, length: number, _options: WriteZeroesOptions): Promise<void> {
    return this.#files.write(this.#inode, offset, length, undefined);
  }
  discard(offset: number, length: number): Promise<void> {
    return this.#files.write(this.#inode, offset, length, undefined);
  }
  flush(): Promise<void> {
    return this.#files.sync(this.#inode, this.#broken);
  }
  extents(offset: number, length: number): Extent[] {
    return this.#inode.now.extents(offset, length);
  }
  resize(sizeBytes: number): Promise<void> {
    return this.#files.resize(this.#inode, sizeBytes);
  }
  async close(): Promise<void> {
    await this.flush();
  }
}

function contentOf(node: MemoryNode): Buffer {
  const bytes = Buffer.alloc(node.sizeBytes);
  node.read(0, bytes);
  return bytes;
}

function ancestors(path: string): string[] {
  const parts = path.split('/').slice(1);
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join('/')}`);
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}

function missing(path: string): Error {
  return Object.assign(new Error(`ENOENT: no such file or directory, '${path}'`), { code: 'ENOENT' });
}
