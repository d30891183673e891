// The only place that writes state files: documents (JSON) and sidecars (bytes) in the state directory.
// A write is a temporary file, fsync, rename, fsync of the folder, so that after any crash a file holds
// either what it held before or all of what was written.
import { randomBytes } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { fromSystemError } from '@tidemark/engine';
import type { PassPoint } from '@tidemark/proto';
import type { z } from 'zod';
import { STATE_FILE_BYTES_MAX } from '../limits.ts';
import { type Files, machineFiles, type StateFile } from './files.ts';
import { ID } from './plain-id.ts';
import { StateLock } from './state-lock.ts';
import { Turns } from './turns.ts';

const TEMPORARY_NAME = /^\..+\.tmp$/;
const CHOSEN_NAME = /(?<=^restores\/(\.partial-)?)[^/.*].*/;

/** A state file that is there but cannot be used. The text names the file, the fault and the next step. */
export class StateFileError extends Error {
  readonly path: string;

  constructor(path: string, fault: string, cause?: unknown) {
    super(
      `State file ${path} cannot be used: ${fault}. ` +
        'Put back a good copy of it, or move it away to do without what it holds.',
      cause === undefined ? undefined : { cause },
    );
    this.name = 'StateFileError';
    this.path = path;
  }
}

/** Names are relative paths with `/`, such as `repositories/ID/repository.json`. */
export class StateStore {
  readonly folder: string;
  readonly files: Files;
  /** Writes of one name happen in the order of the calls. */
  readonly #writes = new Turns();
  readonly #pass: PassPoint | undefined;
  #lock: StateLock | undefined;

  /** `files`: default those of this machine. */
  constructor(options: { folder: string; pass?: PassPoint | undefined; files?: Files | undefined }) {
    this.folder = options.folder;
    this.files = options.files ?? machineFiles;
    this.#pass = options.pass;
  }

  /** Makes the directory, locks it and removes what an interrupted write left. */
  async open(): Promise<void> {
    await this.files.makeFolder(this.folder);
    this.#lock = await StateLock.acquire(this.folder);
    await this.#sweep(this.folder);
  }

  /** Waits for writes that are under way, then lets another process have the directory. */
  async close(): Promise<void> {
    await this.#writes.idle();
    await this.#lock?.release();
    this.#lock = undefined;
  }

  /** The absolute path of a name, for those who open the file themselves. */
  path(name: string): string {
    const parts = name.split('/');
    if (parts.some(part => part === '' || part === '.' || part === '..' || part.includes('\0'))) {
      throw new Error(`'${name}' is not a name of a state file.`);
    }
    return join(this.folder, ...parts);
  }

  /** The document, or undefined where there is none. `StateFileError` when it is not as the schema says. */
  async read<T>(name: string, schema: z.ZodType<T>): Promise<T | undefined> {
    const bytes = await this.readBytes(name);
    if (bytes === undefined) return undefined;
    const parsed = schema.safeParse(parseJson(bytes, this.path(name)));
    if (parsed.success) return parsed.data;
    const [issue] = parsed.error.issues;
    throw new StateFileError(this.path(name), `field '${issue?.path.join('.')}': ${issue?.message}`);
  }

  /** Afterwards the document survives a power cut. The folder is made where it is missing. */
  write(name: string, value: unknown): Promise<void> {
    return this.writeBytes(name, Buffer.from(`${JSON.stringify(value, undefined, 2)}\n`));
  }

  /** The whole file, or undefined where there is none. */
  async readBytes(name: string): Promise<Buffer | undefined> {
    const path = this.path(name);
    try {
      const sizeBytes = await this.files.sizeBytes(path);
      if (sizeBytes > STATE_FILE_BYTES_MAX) {
        throw new StateFileError(path, `it has ${sizeBytes} bytes, too many`);
      }
      return await this.files.read(path);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /**
   * Afterwards the bytes survive a power cut; `bytes` must not change before. Rejects with an EngineError
   * (kind `io` with the errno, such as ENOSPC); the old content stands then.
   */
  writeBytes(name: string, bytes: Uint8Array): Promise<void> {
    return this.#writes.take(name, () => this.#replace(name, bytes));
  }

  /** Removes a file for good; good to repeat. */
  remove(name: string): Promise<void> {
    return this.#writes.take(name, async () => {
      const path = this.path(name);
      this.#passed('remove', name, 'begins');
      await this.files.remove(path);
      this.#passed('remove', name, 'removed');
      if (await this.files.exists(dirname(path))) await this.#syncFolder(dirname(path));
      this.#passed('remove', name, 'durable');
    });
  }

  /** Removes a folder with all that is in it; good to repeat. */
  async removeFolder(name: string): Promise<void> {
    const path = this.path(name);
    this.#passed('remove-folder', name, 'begins');
    await this.files.removeFolder(path);
    this.#passed('remove-folder', name, 'removed');
    if (await this.files.exists(dirname(path))) await this.#syncFolder(dirname(path));
  }

  /** Makes a folder and those above it; afterwards they survive a power cut. */
  async makeFolder(name: string): Promise<void> {
    await this.#makeFolderAt(this.path(name));
    this.#passed('make-folder', name, 'durable');
  }

  /** Makes the name of a file that somebody else has made survive a power cut. */
  async keepName(name: string): Promise<void> {
    await this.#syncFolder(dirname(this.path(name)));
    this.#passed('keep-name', name, 'durable');
  }

  /** Gives a file that somebody else wrote its final name, durably: content first, then the name. */
  async publishFile(from: string, to: string): Promise<void> {
    await this.#syncFile(this.path(from));
    this.#passed('publish', to, 'synced');
    await this.files.rename(this.path(from), this.path(to));
    this.#passed('publish', to, 'renamed');
    await this.#syncFolder(dirname(this.path(to)));
    if (dirname(from) !== dirname(to)) await this.#syncFolder(dirname(this.path(from)));
    this.#passed('publish', to, 'durable');
  }

  /** Names inside a folder, sorted, with hidden ones; empty where the folder is missing. */
  async list(folder: string): Promise<string[]> {
    try {
      return (await this.files.list(this.path(folder))).map(entry => entry.name).sort();
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
  }

  async #replace(name: string, bytes: Uint8Array): Promise<void> {
    const path = this.path(name);
    const folder = dirname(path);
    this.#passed('write', name, 'begins');
    if (!(await this.files.exists(folder))) await this.#makeFolderAt(folder);
    const temporary = join(folder, `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
    await using opened = new AsyncDisposableStack();
    try {
      await this.#writeDurably(temporary, bytes);
      this.#passed('write', name, 'synced');
      // Both now: once the new content is in its place nothing but the disk may stand in the way.
      const before = await this.#openIfThere(path);
      if (before !== undefined) opened.defer(() => before.close());
      const names = opened.adopt(await this.files.openFolder(folder), handle => handle.close());
      await this.files.rename(temporary, path);
      this.#passed('write', name, 'renamed');
      await names.sync().catch(async (error: unknown) => {
        await this.#putBack(path, temporary, before);
        throw error;
      });
    } catch (error) {
      await this.files.remove(temporary);
      throw fromSystemError(error, { op: 'write', path });
    }
    this.#passed('write', name, 'durable');
  }

  /** Points are named by kind of file: ids, and the names that operators chose, are left out. */
  #passed(what: string, name: string, moment: string): void {
    if (this.#pass === undefined) return;
    const kind = name.replaceAll(ID, '*').replace(CHOSEN_NAME, '*');
    this.#pass(`${what} ${kind} ${moment}`);
  }

  async #sweep(folder: string): Promise<void> {
    for (const { name, kind } of await this.files.list(folder)) {
      const path = join(folder, name);
      if (kind === 'folder') await this.#sweep(path);
      else if (kind === 'file' && TEMPORARY_NAME.test(name)) await this.files.remove(path);
    }
  }

  async #writeDurably(path: string, bytes: Uint8Array): Promise<void> {
    const file = await this.files.create(path);
    try {
      await file.write(bytes, 0);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  async #openIfThere(path: string): Promise<StateFile | undefined> {
    try {
      return await this.files.open(path, 'read');
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** Whoever is told of a failure goes on with the old content: the next start has to find that, too. */
  async #putBack(path: string, temporary: string, before: StateFile | undefined): Promise<void> {
    if (before === undefined) return this.files.remove(path);
    await this.#writeDurably(temporary, await before.read());
    await this.files.rename(temporary, path);
  }

  /** Makes missing folders from the top down and syncs the parent of each, so that none is lost. */
  async #makeFolderAt(path: string): Promise<void> {
    const first = await this.files.makeFolder(path);
    if (first === undefined) return;
    for (let made = path; made.length >= first.length; made = dirname(made)) {
      await this.#syncFolder(dirname(made));
    }
  }

  async #syncFile(path: string): Promise<void> {
    await using opened = new AsyncDisposableStack();
    await opened.adopt(await this.files.open(path, 'write'), file => file.close()).sync();
  }

  async #syncFolder(path: string): Promise<void> {
    await using opened = new AsyncDisposableStack();
    await opened.adopt(await this.files.openFolder(path), folder => folder.close()).sync();
  }
}

function parseJson(bytes: Buffer, path: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw new StateFileError(path, 'it is not JSON', error);
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | null)?.code === 'ENOENT';
}
