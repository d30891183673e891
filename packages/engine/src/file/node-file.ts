// One open file: positioned reads and writes, holes, and the lock that keeps a second writer away.
// The lowest layer of the engine; FileNode makes a block node of it.
import fs from 'node:fs';
import { constants } from 'node:os';
import { EngineError, type EngineErrorContext, fromSystemError } from '../errors.ts';
import type { Extent } from '../extent.ts';
import { FILE_NOWAIT_READ_BYTES_MAX, FILE_ZERO_CHUNK_BYTES } from '../limits.ts';
import type { Pending } from '../pending.ts';
import { DirectIo } from './direct-io.ts';
import { extentsOfFile } from './file-extents.ts';
import { type LockedPermissions, PermissionLocks } from './permission-locks.ts';
import { promised } from './promised.ts';
import {
  copyFileRange,
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE,
  FALLOC_ZERO_RANGE,
  fallocate,
  lockSync,
  readNoWaitSync,
} from './syscalls.ts';

export interface NodeFileOptions {
  /** Default false. A writer excludes every other opener of the file; readers share it. */
  readOnly?: boolean;
  /**
   * `whole`, the default: a writer excludes every other opener. `permissions`: nothing is locked at first;
   * `lockPermissions` tells other processes what is done to the file. `off`: nobody is told.
   */
  locking?: 'whole' | 'permissions' | 'off';
  /** Past the page cache (O_DIRECT); default false. Requests need no alignment all the same. */
  direct?: boolean;
  /** Make the file; fails with kind `exists` where there is one. */
  create?: 'exclusive';
  /** Size of a file that is created, in bytes; default 0. */
  sizeBytes?: number;
}

/** A descriptor that no process has: calls on it fail with EBADF. */
const CLOSED_FD = 0x7fffffff;

const ZEROES = Buffer.alloc(FILE_ZERO_CHUNK_BYTES);

/** Would have to wait; was interrupted; the descriptor is closed (the pool's read reports that one). */
const TRANSIENT_ERRNOS: ReadonlySet<number> = new Set([
  constants.errno.EAGAIN,
  constants.errno.EINTR,
  constants.errno.EBADF,
]);

/** What a filesystem answers that does not know the call or the mode. */
const UNSUPPORTED_CODES = new Set(['EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EINVAL', 'ENODEV']);

export type FileReopenOptions = { readOnly: boolean } & Pick<NodeFileOptions, 'direct'>;

export class NodeFile {
  readonly path: string;
  #readOnly: boolean;
  /** CLOSED_FD once closed: the number may by then be another file's. */
  #fd: number;
  #sizeBytes: number;
  /** Cleared at the first filesystem answer that says it has no RWF_NOWAIT. */
  #noWaitWorks = true;
  #punchWorks = true;
  #zeroRangeWorks = true;
  /** The kernel forgets a failed writeback after reporting it once; this file does not. */
  #flushFailure: EngineError | undefined;

  #direct: DirectIo | undefined;
  readonly #locks: PermissionLocks;

  private constructor(path: string, fd: number, readOnly: boolean, sizeBytes: number) {
    this.path = path;
    this.#locks = new PermissionLocks(() => this.#fd, path);
    this.#fd = fd;
    this.#readOnly = readOnly;
    this.#sizeBytes = sizeBytes;
  }

  /**
   * Opens, or makes, a file and locks it. Rejects with kind `not-found`, `exists`, `busy` (somebody else
   * has it open) or `io`; nothing that was made stays behind then.
   */
  static async open(path: string, options: NodeFileOptions = {}): Promise<NodeFile> {
    const readOnly = options.readOnly ?? false;
    const creating = options.create === 'exclusive';
    const flags = openFlags(options) | (creating ? fs.constants.O_CREAT | fs.constants.O_EXCL : 0);
    let fd: number | undefined;
    try {
      fd = await promised<number>(done => fs.open(path, flags, 0o644, done));
      const file = new NodeFile(path, fd, readOnly, await prepareOpened(fd, path, options));
      if (options.direct === true) file.#direct = await file.#openDirect(() => file.#fd);
      return file;
    } catch (error) {
      if (fd !== undefined) {
        fs.closeSync(fd);
        if (creating) fs.rmSync(path, { force: true });
      }
      throw fromSystemError(error, { op: creating ? 'create' : 'open', path });
    }
  }

  get readOnly(): boolean {
    return this.#readOnly;
  }

  /** Past the page cache. */
  get direct(): boolean {
    return this.#direct !== undefined;
  }

  #openDirect(fd: () => number): Promise<DirectIo> {
    return DirectIo.open({
      fd,
      sizeBytes: () => this.#sizeBytes,
      reached: endBytes => {
        this.#sizeBytes = Math.max(this.#sizeBytes, endBytes);
      },
    });
  }

  /**
   * Opens the file anew, for reading or writing and past the page cache or not, as it is to be from then on,
   * without using it yet. Of the two functions returned, one has to be called, with no request in flight:
   * neither fails. Rejects as `open` does.
   */
  async prepareReopen(options: FileReopenOptions): Promise<{ commit(): void; abort(): void }> {
    let fd: number | undefined;
    let direct: DirectIo | undefined;
    try {
      fd = await promised<number>(done => fs.open(this.path, openFlags(options), done));
      const opened = fd;
      if (options.direct === true) direct = await this.#openDirect(() => opened);
    } catch (error) {
      if (fd !== undefined) fs.closeSync(fd);
      throw fromSystemError(error, this.#context('open'));
    }
    const next = fd;
    return {
      commit: () => {
        this.#locks.moveTo(next);
        const old = this.#fd;
        this.#fd = next;
        this.#direct = direct;
        this.#readOnly = options.readOnly;
        fs.close(old, () => {});
      },
      abort: () => fs.closeSync(next),
    };
  }

  /** For files opened with locking `permissions`. Throws kind `busy`; returns the way back. */
  lockPermissions(permissions: LockedPermissions): () => void {
    return this.#locks.change(permissions);
  }

  /** Bytes, as of opening and of the writes and truncations made through this object. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /**
   * Fills the whole buffer; what lies past the end of the file reads as zeroes. Small reads that the
   * page cache can serve are done on the spot.
   */
  read(offset: number, buffer: Buffer): Pending {
    if (this.#direct !== undefined) return this.#readDirectly(this.#direct, offset, buffer);
    if (buffer.length <= FILE_NOWAIT_READ_BYTES_MAX && this.#noWaitWorks) {
      const count = readNoWaitSync(this.#fd, buffer, offset);
      if (count === buffer.length) return undefined;
      if (count === 0 && offset >= this.#sizeBytes) {
        buffer.fill(0);
        return undefined;
      }
      // Short reads happen at the end of the file and where only a part is cached: the pool settles both.
      if (count < 0 && !TRANSIENT_ERRNOS.has(-count)) this.#noWaitWorks = false;
    }
    return this.#readInPool(offset, buffer);
  }

  async #readInPool(offset: number, buffer: Buffer): Promise<void> {
    let done = 0;
    try {
      while (done < buffer.length) {
        const count = await promised<number>(settle =>
          fs.read(this.#fd, buffer, done, buffer.length - done, offset + done, settle),
        );
        if (count === 0) break;
        done += count;
      }
    } catch (error) {
      throw fromSystemError(error, this.#context('read', offset, buffer.length));
    }
    buffer.fill(0, done);
  }

  async #readDirectly(direct: DirectIo, offset: number, buffer: Buffer): Promise<void> {
    try {
      await direct.read(offset, buffer);
    } catch (error) {
      throw fromSystemError(error, this.#context('read', offset, buffer.length));
    }
  }

  /** Writes the whole buffer, in the thread pool. A write past the end lets the file grow. */
  async write(offset: number, buffer: Buffer): Promise<void> {
    let done = 0;
    try {
      if (this.#direct !== undefined) return await this.#direct.write(offset, buffer);
      while (done < buffer.length) {
        done += await promised<number>(settle =>
          fs.write(this.#fd, buffer, done, buffer.length - done, offset + done, settle),
        );
      }
    } catch (error) {
      throw fromSystemError(error, this.#context('write', offset, buffer.length));
    }
    this.#sizeBytes = Math.max(this.#sizeBytes, offset + buffer.length);
  }

  /**
   * Copies `length` bytes of another file to `offset` of this one without touching them here. Rejects where
   * the kernel cannot, or where the other file ends earlier: part of the range may have been written then.
   */
  async copyFrom(source: NodeFile, sourceOffset: number, offset: number, length: number): Promise<void> {
    try {
      for (let done = 0; done < length; ) {
        const from = { fd: source.#fd, offset: sourceOffset + done };
        const count = await copyFileRange(from, { fd: this.#fd, offset: offset + done }, length - done);
        if (count === 0) throw new EngineError('io', `${source.path} ends at ${from.offset}`);
        done += count;
      }
    } catch (error) {
      throw fromSystemError(error, this.#context('copy', offset, length));
    }
    this.#sizeBytes = Math.max(this.#sizeBytes, offset + length);
  }

  /** Afterwards the range reads as zeroes: as a hole where it may and the filesystem can. */
  async writeZeroes(offset: number, length: number, options: { mayUnmap: boolean }): Promise<void> {
    if (length === 0) return;
    try {
      // By a write, not by truncating: that could cut off what another write is just adding.
      if (offset + length > this.#sizeBytes) await this.write(offset + length - 1, ZEROES.subarray(0, 1));
      if (options.mayUnmap && (await this.#punchHole(offset, length))) return;
      if (await this.#zeroRange(offset, length)) return;
      for (let done = 0; done < length; done += ZEROES.length) {
        await this.write(offset + done, ZEROES.subarray(0, Math.min(ZEROES.length, length - done)));
      }
    } catch (error) {
      throw fromSystemError(error, this.#context('write-zeroes', offset, length));
    }
  }

  /** Gives the range's space back where the filesystem can; the range reads as zeroes then. */
  async discard(offset: number, length: number): Promise<void> {
    if (length === 0) return;
    try {
      await this.#punchHole(offset, length);
    } catch (error) {
      throw fromSystemError(error, this.#context('discard', offset, length));
    }
  }

  /**
   * Data written before the call is on the disk afterwards. Once it has failed it fails for good: the
   * kernel may have dropped the pages that it could not write.
   */
  async flush(): Promise<void> {
    if (this.#flushFailure !== undefined) throw this.#flushFailure;
    try {
      await promised<void>(done => fs.fdatasync(this.#fd, done));
    } catch (error) {
      this.#flushFailure = fromSystemError(error, this.#context('flush'));
      throw this.#flushFailure;
    }
  }

  /** Data and holes of the range, at most EXTENTS_PER_CALL_MAX of them; past the end is a hole. */
  extents(offset: number, length: number): Extent[] {
    try {
      return extentsOfFile(this.#fd, offset, length);
    } catch (error) {
      throw fromSystemError(error, this.#context('extents', offset, length));
    }
  }

  /** Afterwards the file has exactly this many bytes; new ones read as zeroes. */
  async truncate(sizeBytes: number): Promise<void> {
    try {
      await promised<void>(done => fs.ftruncate(this.#fd, sizeBytes, done));
    } catch (error) {
      throw fromSystemError(error, this.#context('truncate', sizeBytes));
    }
    this.#sizeBytes = sizeBytes;
  }

  /** Bytes the file occupies on its filesystem: holes cost nothing. */
  async allocatedBytes(): Promise<number> {
    try {
      const stat = await promised<fs.Stats>(done => fs.fstat(this.#fd, done));
      return stat.blocks * 512;
    } catch (error) {
      throw fromSystemError(error, this.#context('stat'));
    }
  }

  /** Lets go of the file and its lock without flushing. A second call does nothing. */
  async close(): Promise<void> {
    if (this.#fd === CLOSED_FD) return;
    const fd = this.#fd;
    this.#fd = CLOSED_FD;
    try {
      await promised<void>(done => fs.close(fd, done));
    } catch (error) {
      throw fromSystemError(error, this.#context('close'));
    }
  }

  /** False where the filesystem cannot punch holes. */
  async #punchHole(offset: number, length: number): Promise<boolean> {
    if (this.#punchWorks) {
      this.#punchWorks = await this.#tryFallocate(FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length);
    }
    return this.#punchWorks;
  }

  async #zeroRange(offset: number, length: number): Promise<boolean> {
    if (this.#zeroRangeWorks) {
      this.#zeroRangeWorks = await this.#tryFallocate(FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, offset, length);
    }
    return this.#zeroRangeWorks;
  }

  async #tryFallocate(mode: number, offset: number, length: number): Promise<boolean> {
    const change = () => fallocate(this.#fd, mode, offset, length);
    try {
      await (this.#direct === undefined ? change() : this.#direct.claimed(offset, length, change));
      return true;
    } catch (error) {
      if (UNSUPPORTED_CODES.has((error as NodeJS.ErrnoException).code ?? '')) return false;
      throw error;
    }
  }

  #context(op: string, offset?: number, length?: number): EngineErrorContext {
    const context: EngineErrorContext = { op, path: this.path };
    if (offset !== undefined) context.offset = offset;
    if (length !== undefined) context.length = length;
    return context;
  }
}

function openFlags({ readOnly, direct }: { readOnly?: boolean; direct?: boolean }): number {
  const access = readOnly === true ? fs.constants.O_RDONLY : fs.constants.O_RDWR;
  return access | (direct === true ? fs.constants.O_DIRECT : 0);
}

/** Locks and sizes a file that was just opened; returns its size in bytes. */
async function prepareOpened(fd: number, path: string, options: NodeFileOptions): Promise<number> {
  const stat = await promised<fs.Stats>(done => fs.fstat(fd, done));
  if (!stat.isFile()) {
    throw new EngineError('unsupported', `${path} is not a regular file; give the path of an image file`, {
      op: 'open',
      path,
    });
  }
  const whole = (options.locking ?? 'whole') === 'whole';
  if (whole && !lockSync(fd, options.readOnly ? 'shared' : 'exclusive')) {
    const user = options.readOnly ? 'open for writing' : 'open';
    throw new EngineError('busy', `${path} is already ${user} elsewhere; close its other user first`, {
      op: 'open',
      path,
    });
  }
  if (options.create === undefined || options.sizeBytes === undefined) return stat.size;
  const { sizeBytes } = options;
  await promised<void>(done => fs.ftruncate(fd, sizeBytes, done));
  return sizeBytes;
}
