// Everything that happened to some simulated files, in order, and what of it is there after a crash.
//
// After a kill all is there that had ended. After a power cut, too, only that surely is which a sync that had ended
// covers: of the rest each sector of each write, and each change of a name, is there or not, in any combination. What
// was on its way at the crash is there or not in either case.
import { type BlockNode, SECTOR_BYTES } from '@tidemark/engine';
import { MemoryNode, type SeededRandom } from '@tidemark/engine/testing';

/** One file's contents, whatever names it has. */
export interface Inode {
  readonly id: number;
  readonly now: MemoryNode;
}

/** What a name stands for: a file, a folder, or nothing any more. */
export type Named = Inode | 'folder' | undefined;

/** When it had ended, as a number of entries before that; Infinity while it has not. */
interface Timed {
  ended: number;
}

type Entry =
  | ({ kind: 'write'; inode: Inode; offset: number; length: number; bytes: Buffer | undefined } & Timed)
  | ({ kind: 'size'; inode: Inode; sizeBytes: number } & Timed)
  | ({ kind: 'names'; folder: string; names: readonly (readonly [string, Named])[] } & Timed)
  /** Covers what had ended when it `began`. */
  | { kind: 'sync'; what: Inode | string; began: number };

export interface Crash {
  readonly moment: number;
  readonly how: 'kill' | 'power-cut';
}

/** Files and folders by their paths. */
export type Surviving = Map<string, MemoryNode | 'folder'>;

export class Journal {
  readonly #entries: Entry[] = [];

  /** How much has happened so far: the time of this world. */
  get length(): number {
    return this.#entries.length;
  }

  write(inode: Inode, offset: number, length: number, bytes: Buffer | undefined): Timed {
    return this.#begin({ kind: 'write', inode, offset, length, bytes, ended: Infinity });
  }

  resize(inode: Inode, sizeBytes: number): Timed {
    return this.#begin({ kind: 'size', inode, sizeBytes, ended: Infinity });
  }

  rename(folder: string, names: readonly (readonly [string, Named])[]): Timed {
    return this.#begin({ kind: 'names', folder, names, ended: Infinity });
  }

  end(entry: Timed): void {
    entry.ended = this.#entries.length;
  }

  /** To be called when the sync has ended. */
  synced(what: Inode | string, began: number): void {
    this.#entries.push({ kind: 'sync', what, began });
  }

  #begin<E extends Entry>(entry: E): E {
    this.#entries.push(entry);
    return entry;
  }

  /** What is there after the crash, from `root` down. */
  after(crash: Crash, root: string, random: SeededRandom): Surviving {
    const names = new Map<string, Map<string, Named>>();
    const contents = new Map<Inode, MemoryNode>();
    const lossBytes = random.pick([SECTOR_BYTES, 8 * SECTOR_BYTES]);
    const syncs = this.#syncsBefore(crash.moment);
    for (const [index, entry] of this.#entries.slice(0, crash.moment).entries()) {
      if (entry.kind === 'sync') continue;
      const fate = fateOf(entry, index, crash, syncs);
      if (entry.kind === 'names') {
        if (fate === 'open' && random.chance(0.5)) continue;
        const folder = names.get(entry.folder) ?? new Map<string, Named>();
        for (const [name, named] of entry.names) folder.set(name, named);
        names.set(entry.folder, folder);
        continue;
      }
      const content = contents.get(entry.inode) ?? new MemoryNode({ sizeBytes: 0 });
      contents.set(entry.inode, content);
      const isThere = () => fate === 'there' || random.chance(0.5);
      if (entry.kind === 'write') applyWrite(content, entry, lossBytes, isThere);
      else if (isThere()) void content.resize(entry.sizeBytes);
    }
    return collect(root, names, contents);
  }

  /** Of each file and folder: the latest moment of which everything that had ended is surely there. */
  #syncsBefore(moment: number): Map<Inode | string, number> {
    const syncs = new Map<Inode | string, number>();
    for (const entry of this.#entries.slice(0, moment)) {
      if (entry.kind === 'sync') syncs.set(entry.what, Math.max(syncs.get(entry.what) ?? 0, entry.began));
    }
    return syncs;
  }
}

function fateOf(
  entry: Exclude<Entry, { kind: 'sync' }>,
  index: number,
  { moment, how }: Crash,
  syncs: ReadonlyMap<Inode | string, number>,
): 'there' | 'open' {
  if (index >= moment || entry.ended > moment) return 'open';
  if (how === 'kill') return 'there';
  const synced = syncs.get(entry.kind === 'names' ? entry.folder : entry.inode) ?? 0;
  return entry.ended <= synced ? 'there' : 'open';
}

function applyWrite(
  content: BlockNode,
  { offset, length, bytes }: Extract<Entry, { kind: 'write' }>,
  lossBytes: number,
  isThere: () => boolean,
): void {
  for (let from = offset; from < offset + length; ) {
    const to = Math.min(offset + length, (Math.floor(from / lossBytes) + 1) * lossBytes);
    if (isThere())
      content.write(from, bytes?.subarray(from - offset, to - offset) ?? Buffer.alloc(to - from));
    from = to;
  }
}

function collect(
  root: string,
  names: ReadonlyMap<string, ReadonlyMap<string, Named>>,
  contents: ReadonlyMap<Inode, MemoryNode>,
): Surviving {
  const found: Surviving = new Map();
  const walk = (folder: string): void => {
    found.set(folder, 'folder');
    for (const [name, named] of names.get(folder) ?? []) {
      const path = `${folder}/${name}`;
      if (named === 'folder') walk(path);
      else if (named !== undefined) found.set(path, contents.get(named) ?? new MemoryNode({ sizeBytes: 0 }));
    }
  };
  walk(root);
  return found;
}
