// Real files for the filesystem: a copy of this checkout, as far as the bound allows, and what the days change
// in it.

import { constants } from 'node:fs';
import { appendFile, copyFile, mkdir, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FILE_BYTES_MAX } from './layout.ts';

/** The project's own files before those it installed, which are many. */
const LAST = 'node_modules';
const LEFT_OUT = new Set(['.git', '.tidemark', '.turbo', 'coverage']);
/** Names that every tool takes without quoting. */
const PLAIN_PATH = /^[\w.@+\-/]+$/;

const EDITED = 24;
const REMOVED = 8;
const ADDED = 12;
const EDITED_BYTES_MAX = 128 * 1024;
const ADDED_BYTES_MAX = 1024 * 1024;

interface TreeFile {
  /** Relative to the tree's folder. */
  readonly path: string;
  readonly bytes: number;
}

export interface TreeChange {
  /** A new folder that holds the added files. */
  readonly folder: string;
  readonly added: string[];
  readonly edited: string[];
  readonly removed: string[];
}

export class FileTree {
  readonly folder: string;
  #files: TreeFile[];

  private constructor(folder: string, files: TreeFile[]) {
    this.folder = folder;
    this.#files = files;
  }

  /**
   * Copies files of `from` into the new folder, in a fixed order, those left out that would pass the bound and
   * the folder `leaveOut`.
   */
  static async copy(
    from: string,
    folder: string,
    options: { bytesMax: number; leaveOut?: string | undefined; signal?: AbortSignal | undefined },
  ): Promise<FileTree> {
    const { bytesMax, leaveOut, signal } = options;
    const files: TreeFile[] = [];
    let bytes = 0;
    for await (const file of walk(from, '', leaveOut)) {
      signal?.throwIfAborted();
      if (file.bytes > FILE_BYTES_MAX || bytes + file.bytes > bytesMax) continue;
      const target = join(folder, file.path);
      await mkdir(dirname(target), { recursive: true });
      await copyFile(join(from, file.path), target, constants.COPYFILE_FICLONE);
      files.push(file);
      bytes += file.bytes;
    }
    return new FileTree(folder, files);
  }

  get count(): number {
    return this.#files.length;
  }

  get bytes(): number {
    return this.#files.reduce((sum, file) => sum + file.bytes, 0);
  }

  /** Edits, adds and removes files, on disk as well. `day` is the new folder's name. */
  async change(day: string): Promise<TreeChange> {
    const chosen = spread(
      this.#files.filter(file => file.bytes <= EDITED_BYTES_MAX),
      EDITED + REMOVED,
      day,
    );
    const edited = chosen.slice(0, EDITED).map(file => file.path);
    const removed = chosen.slice(EDITED).map(file => file.path);
    const models = spread(
      this.#files.filter(file => file.bytes <= ADDED_BYTES_MAX && file.bytes > 0),
      ADDED,
      `${day}+`,
    );
    for (const path of edited) await appendFile(join(this.folder, path), `\nEdited on ${day}.\n`);
    await mkdir(join(this.folder, day));
    const added: string[] = [];
    for (const [index, model] of models.entries()) {
      const path = `${day}/copy-${index}`;
      await copyFile(join(this.folder, model.path), join(this.folder, path));
      await appendFile(join(this.folder, path), `\nAdded on ${day}.\n`);
      added.push(path);
    }
    for (const path of removed) await rm(join(this.folder, path));
    const gone = new Set(removed);
    this.#files = this.#files.filter(file => !gone.has(file.path));
    return { folder: day, added, edited, removed };
  }
}

async function* walk(root: string, under: string, leaveOut?: string): AsyncGenerator<TreeFile> {
  const entries = await readdir(join(root, under), { withFileTypes: true });
  entries.sort((a, b) => Number(a.name === LAST) - Number(b.name === LAST) || (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = under === '' ? entry.name : `${under}/${entry.name}`;
    if (LEFT_OUT.has(entry.name) || !PLAIN_PATH.test(path) || join(root, path) === leaveOut) continue;
    if (entry.isDirectory()) yield* walk(root, path, leaveOut);
    else if (entry.isFile()) {
      const found = await stat(join(root, path)).catch(() => null); // an editor's file may be gone by now
      if (found !== null) yield { path, bytes: found.size };
    }
  }
}

/** Some of the items, far apart; which ones follows from the word. */
function spread<T>(items: readonly T[], count: number, word: string): T[] {
  const step = Math.max(1, Math.floor(items.length / count));
  const start = [...word].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % step;
  return items.filter((_item, index) => index % step === start).slice(0, count);
}
