// The files under a storage node's state, as the few operations that state, bitmaps and images of volumes need.
// Handed in, so that a test can keep a record of every write and sync and lose what a power cut may lose.
import { constants, type Dirent } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { type BlockNode, createQcow2, createRawFile, FileNode } from '@tidemark/engine';

/** One open file. */
export interface StateFile {
  read(): Promise<Buffer>;
  /** All of the bytes. */
  write(bytes: Uint8Array, offset: number): Promise<void>;
  /** Afterwards what was written before the call survives a power cut. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface FolderEntry {
  readonly name: string;
  readonly kind: 'file' | 'folder' | 'other';
}

export interface NewImage {
  readonly format: 'raw' | 'qcow2';
  readonly sizeBytes: number;
  readonly backing?: { path: string; format: 'raw' | 'qcow2' };
}

/** Paths are absolute. All reject as node:fs does. */
export interface Files {
  /** Makes the folder and those above it; resolves with the highest one that was missing. */
  makeFolder(path: string): Promise<string | undefined>;
  list(path: string): Promise<FolderEntry[]>;
  sizeBytes(path: string): Promise<number>;
  exists(path: string): Promise<boolean>;
  read(path: string): Promise<Buffer>;
  /** Fails where there is one. */
  create(path: string): Promise<StateFile>;
  /** `durable`: each write survives a power cut when it has ended. */
  open(path: string, how: 'read' | 'write' | 'durable'): Promise<StateFile>;
  /** For making what happened to the names in it survive a power cut. */
  openFolder(path: string): Promise<Pick<StateFile, 'sync' | 'close'>>;
  rename(from: string, to: string): Promise<void>;
  /** Good to repeat. */
  remove(path: string): Promise<void>;
  /** With all that is in it; good to repeat. */
  removeFolder(path: string): Promise<void>;
  /** Durable in itself; its name is not. */
  createImage(path: string, image: NewImage): Promise<void>;
  openImage(path: string): Promise<BlockNode>;
}

const HOW = { read: 'r', write: 'r+', durable: constants.O_RDWR | constants.O_DSYNC } as const;

/** The files of this machine. */
export const machineFiles: Files = {
  makeFolder: path => mkdir(path, { recursive: true, mode: 0o700 }),
  async list(path) {
    return (await readdir(path, { withFileTypes: true })).map(entry => ({
      name: entry.name,
      kind: kindOf(entry),
    }));
  },
  sizeBytes: async path => (await stat(path)).size,
  exists: path =>
    stat(path).then(
      () => true,
      () => false,
    ),
  read: path => readFile(path),
  create: async path => stateFile(await open(path, 'wx', 0o600)),
  open: async (path, how) => stateFile(await open(path, HOW[how])),
  openFolder: async path => stateFile(await open(path, 'r')),
  rename: (from, to) => rename(from, to),
  remove: path => rm(path, { force: true }),
  removeFolder: path => rm(path, { recursive: true, force: true }),
  createImage: (path, { format, ...image }) =>
    format === 'raw' ? createRawFile(path, image.sizeBytes) : createQcow2(path, image),
  openImage: path => FileNode.open(path),
};

function stateFile(handle: FileHandle): StateFile {
  return {
    read: () => handle.readFile(),
    async write(bytes, offset) {
      for (let done = 0; done < bytes.length; ) {
        done += (await handle.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
      }
    },
    sync: () => handle.sync(),
    close: () => handle.close(),
  };
}

function kindOf(entry: Dirent): FolderEntry['kind'] {
  if (entry.isDirectory()) return 'folder';
  return entry.isFile() ? 'file' : 'other';
}
