// The Linux system calls that node:fs lacks, through koffi. Loaded at the first use, so that importing
// costs nothing and a machine without a usable C library gets an error that says so.
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { EngineError } from '../errors.ts';

/** lseek(2): the next byte at or after the offset that holds data. */
export const SEEK_DATA = 3;
/** lseek(2): the next byte at or after the offset that lies in a hole; the end of the file is one. */
export const SEEK_HOLE = 4;

/** fallocate(2) modes, from linux/falloc.h. */
export const FALLOC_KEEP_SIZE = 0x01;
export const FALLOC_PUNCH_HOLE = 0x02;
export const FALLOC_ZERO_RANGE = 0x10;

/** preadv2(2): fail with EAGAIN instead of waiting for the disk. */
const RWF_NOWAIT = 0x08;

/** flock(2) operations. */
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/** fcntl(2): locks that belong to the open file description, in linux/fcntl.h. */
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

/** glibc first; the second name is what musl-based systems have. */
const LIBRARY_NAMES = ['libc.so.6', `libc.musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1`];

interface IoVector {
  base: Buffer | null;
  len: number;
}

/** struct flock; a length of 0 means up to the end. */
interface FileLock {
  l_type: number;
  l_whence: number;
  l_start: number;
  l_len: number;
  l_pid: number;
}

interface Libc {
  lseek(fd: number, offset: number, whence: number): number;
  preadv2(fd: number, vectors: IoVector[], count: number, offset: number, flags: number): number;
  flock(fd: number, operation: number): number;
  fcntl(fd: number, command: number, type: string, lock: FileLock): number;
  fallocate: {
    async(
      fd: number,
      mode: number,
      offset: number,
      length: number,
      done: (error: Error | null, result: number) => void,
    ): void;
  };
  copyFileRange: {
    async(
      from: number,
      fromOffset: [number],
      to: number,
      toOffset: [number],
      length: number,
      flags: number,
      done: (error: Error | null, result: number) => void,
    ): void;
  };
}

let loaded: Libc | undefined;

function libc(): Libc {
  loaded ??= loadLibc();
  return loaded;
}

function loadLibc(): Libc {
  const failures: string[] = [];
  for (const name of LIBRARY_NAMES) {
    try {
      return bindLibc(name);
    } catch (error) {
      failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new EngineError(
    'unsupported',
    `no usable C library found for file access (${failures.join('; ')}); Linux with glibc or musl is needed`,
    { op: 'load' },
  );
}

/** All offsets are 64 bits wide: the types below are those of a 64-bit off_t. */
function bindLibc(name: string): Libc {
  const library = koffi.load(name);
  koffi.struct('flock', {
    l_type: 'short',
    l_whence: 'short',
    l_start: 'int64_t',
    l_len: 'int64_t',
    l_pid: 'int',
  });
  const vector = koffi.struct({ base: 'void *', len: 'size_t' });
  return {
    lseek: library.func('lseek', 'int64_t', ['int', 'int64_t', 'int']),
    preadv2: library.func('preadv2', 'int64_t', ['int', koffi.pointer(vector), 'int', 'int64_t', 'int']),
    flock: library.func('flock', 'int', ['int', 'int']),
    fcntl: library.func('int fcntl(int fd, int command, ...)'),
    fallocate: library.func('fallocate', 'int', ['int', 'int', 'int64_t', 'int64_t']),
    copyFileRange: library.func(
      'int64_t copy_file_range(int from, _Inout_ int64_t *fromOffset, int to, _Inout_ int64_t *toOffset, ' +
        'size_t length, uint flags)',
    ),
  } as unknown as Libc;
}

/** An error as node:fs throws it: `code` is the errno's name. */
function systemError(call: string, errno: number): Error {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${code}: ${call}`), { code, errno: -errno, syscall: call });
}

const ENXIO = 6;

/**
 * The next place of that kind at or after `offset`, or undefined where none follows before the end of
 * the file. Throws a system error; EINVAL where the filesystem does not know holes.
 */
export function seekSync(fd: number, offset: number, whence: number): number | undefined {
  const place = libc().lseek(fd, offset, whence);
  if (place >= 0) return place;
  const errno = koffi.errno();
  if (errno === ENXIO) return undefined;
  throw systemError('lseek', errno);
}

/** One vector, reused: the call below is synchronous, so nobody else sees it half filled. */
const vectors: IoVector[] = [{ base: null, len: 0 }];

/**
 * Reads what the page cache has without waiting for the disk. Returns the bytes read, which may be
 * fewer than asked for, or minus the errno (EAGAIN: would have had to wait).
 */
export function readNoWaitSync(fd: number, buffer: Buffer, offset: number): number {
  const vector = vectors[0]!;
  vector.base = buffer;
  vector.len = buffer.length;
  const count = libc().preadv2(fd, vectors, 1, offset, RWF_NOWAIT);
  vector.base = null;
  return count >= 0 ? count : -koffi.errno();
}

/** Where a buffer lies: the same for as long as it lives. */
export function memoryAddress(buffer: Buffer): bigint {
  return koffi.address(buffer);
}

/** fallocate(2) in the thread pool. Rejects with a system error. */
export function fallocate(fd: number, mode: number, offset: number, length: number): Promise<void> {
  return new Promise((resolve, reject) => {
    libc().fallocate.async(fd, mode, offset, length, (error, result) => {
      if (error !== null) reject(error);
      else if (result === 0) resolve();
      else reject(systemError('fallocate', koffi.errno()));
    });
  });
}

/**
 * copy_file_range(2) in the thread pool: the kernel moves the bytes, or shares them where the filesystem can.
 * Resolves to the bytes copied, which may be fewer; 0 at the end of the file. Rejects with a system error.
 */
export function copyFileRange(
  from: { fd: number; offset: number },
  to: { fd: number; offset: number },
  length: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, result: number): void => {
      if (error !== null) reject(error);
      else if (result >= 0) resolve(result);
      else reject(systemError('copy_file_range', koffi.errno()));
    };
    libc().copyFileRange.async(from.fd, [from.offset], to.fd, [to.offset], length, 0, done);
  });
}

/**
 * Takes the advisory lock of flock(2) for this open file; it ends when the descriptor is closed or the
 * process dies. Returns false where another open file holds a lock that excludes this one.
 */
export function lockSync(fd: number, mode: 'shared' | 'exclusive'): boolean {
  const result = libc().flock(fd, (mode === 'shared' ? LOCK_SH : LOCK_EX) | LOCK_NB);
  if (result === 0) return true;
  const error = systemError('flock', koffi.errno());
  if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return false;
  throw error;
}

/**
 * Takes or gives back a shared lock on one byte for this open file. Locks of one open file do not exclude each
 * other; they are seen by `isByteLockedElsewhere` of others. Throws a system error.
 */
export function lockByteSync(fd: number, offset: number, locked: boolean): void {
  const lock = { l_type: locked ? F_RDLCK : F_UNLCK, l_whence: 0, l_start: offset, l_len: 1, l_pid: 0 };
  if (libc().fcntl(fd, F_OFD_SETLK, 'flock *', lock) !== 0) throw systemError('fcntl', koffi.errno());
}

/** Whether another open file, of whichever process, has a lock on the byte. Throws a system error. */
export function isByteLockedElsewhere(fd: number, offset: number): boolean {
  const lock = koffi.alloc('flock', 1);
  try {
    koffi.encode(lock, 'flock', { l_type: F_WRLCK, l_whence: 0, l_start: offset, l_len: 1, l_pid: 0 });
    if (libc().fcntl(fd, F_OFD_GETLK, 'void *', lock as unknown as FileLock) !== 0) {
      throw systemError('fcntl', koffi.errno());
    }
    return (koffi.decode(lock, 'flock') as FileLock).l_type !== F_UNLCK;
  } finally {
    koffi.free(lock);
  }
}
