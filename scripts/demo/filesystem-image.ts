// The image of a filesystem with real files, one per day: ext4 where its tools exist, otherwise a tar, which
// is no filesystem but holds the same files.

import { constants } from 'node:fs';
import { copyFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { FileTree, type TreeChange } from './file-tree.ts';
import { FILES_BYTES_MAX, FILESYSTEM, TAR_FILES_BYTES_MAX } from './layout.ts';
import { findTool, runToolWell } from './tool.ts';

/** One identity and one moment for all images: what differs from day to day is what the files changed. */
const UUID = '7d1fa3a4-9f0e-4a57-8f1e-6b1d2c3e4f50';
const HASH_SEED = '0c2b8d6e-31f4-4c0d-9c55-9f7a6e5d4c3b';
const FIXED_TIME = { E2FSPROGS_FAKE_TIME: '1700000000' };

interface Format {
  readonly name: string;
  readonly filesBytesMax: number;
  make(tree: FileTree, path: string, signal?: AbortSignal): Promise<void>;
  /** `path` holds the image of the day before. */
  update(tree: FileTree, path: string, change: TreeChange, signal?: AbortSignal): Promise<void>;
}

export class FilesystemImage {
  readonly format: string;
  readonly tree: FileTree;
  readonly #folder: string;
  readonly #format: Format;
  #path: string;

  private constructor(folder: string, format: Format, tree: FileTree, path: string) {
    this.#folder = folder;
    this.format = format.name;
    this.#format = format;
    this.tree = tree;
    this.#path = path;
  }

  /** Makes the first day's image in the folder, of files copied from `from`. */
  static async make(options: {
    from: string;
    /** A folder in `from` that is none of the files. */
    leaveOut?: string;
    folder: string;
    day: string;
    format?: Format;
    signal?: AbortSignal;
  }): Promise<FilesystemImage> {
    const { from, leaveOut, folder, day, format = chooseFormat(), signal } = options;
    const bytesMax = format.filesBytesMax;
    const tree = await FileTree.copy(from, join(folder, 'files'), { bytesMax, leaveOut, signal });
    const path = join(folder, `${day}.img`);
    await format.make(tree, path, signal);
    return new FilesystemImage(folder, format, tree, path);
  }

  /** The newest day's image, as long as the format makes them. */
  get path(): string {
    return this.#path;
  }

  /** Changes files and makes another image of them; the earlier ones stay as they are. */
  async change(day: string, signal?: AbortSignal): Promise<TreeChange> {
    const path = join(this.#folder, `${day}.img`);
    await copyFile(this.#path, path, constants.COPYFILE_FICLONE);
    const change = await this.tree.change(day);
    await this.#format.update(this.tree, path, change, signal);
    this.#path = path;
    return change;
  }
}

function chooseFormat(): Format {
  const [mkfs, debugfs, tar] = ['mkfs.ext4', 'debugfs', 'tar'].map(findTool);
  const sizeBytes = FILESYSTEM.length;
  if (mkfs && debugfs) return ext4Format({ mkfs, debugfs, sizeBytes });
  if (tar) return tarFormat({ tar, sizeBytes });
  throw new Error('neither mkfs.ext4 (package e2fsprogs) nor tar is installed: the demo needs one of them');
}

export function ext4Format(options: { mkfs: string; debugfs: string; sizeBytes: number }): Format {
  const { mkfs, debugfs, sizeBytes } = options;
  return {
    name: 'ext4 filesystem',
    filesBytesMax: FILES_BYTES_MAX,
    async make(tree, path, signal) {
      const features = `hash_seed=${HASH_SEED},lazy_itable_init=0,root_owner=0:0`;
      const size = `${sizeBytes / 1024}k`;
      const args = ['-q', '-F', '-b', '4096', '-U', UUID, '-E', features, '-d', tree.folder, path, size];
      await runToolWell(mkfs, args, { environment: FIXED_TIME, signal });
    },
    /** In place: rebuilding would move every file behind the first that grew. */
    async update(tree, path, { folder, added, edited, removed }, signal) {
      const commands = [
        ...[...removed, ...edited].map(file => `rm /${file}`),
        `mkdir /${folder}`,
        ...[...edited, ...added].map(file => `write ${file} /${file}`),
      ];
      const options = {
        cwd: tree.folder,
        environment: FIXED_TIME,
        input: `${commands.join('\n')}\n`,
        signal,
      };
      const messages = await runToolWell(debugfs, ['-w', '-f', '-', path], options);
      // Its exit code is 0 whatever happened: beside the commands it may only say which inodes it took.
      const said = messages.split('\n').filter(line => !/^(debugfs[ :].*|Allocated inode: \d+|)$/.test(line));
      if (said.length > 0) throw new Error(`${debugfs} could not change ${path}:\n${said.join('\n')}`);
    },
  };
}

export function tarFormat({ tar, sizeBytes }: { tar: string; sizeBytes: number }): Format {
  const make = async (tree: FileTree, path: string, signal?: AbortSignal): Promise<void> => {
    await runToolWell(tar, ['-cf', path, '-C', tree.folder, '.'], { signal });
    await truncate(path, sizeBytes);
  };
  return {
    name: 'tar',
    filesBytesMax: TAR_FILES_BYTES_MAX,
    make,
    update: (tree, path, _change, signal) => make(tree, path, signal),
  };
}
