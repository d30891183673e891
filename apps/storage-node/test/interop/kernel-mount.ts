// A volume's export as a disk of the kernel: nbdfuse shows it as a file, a loop device makes a disk of it,
// and a filesystem is mounted from there. Everything is undone at the end of the test, last first, also
// when it fails; what a killed test left belongs to folders and devices that no other test looks at.
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rmdir, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';

const run = promisify(execFile);
const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 10_000;
const POLL_MS = 20;

const TOOLS = ['nbdfuse', 'losetup', 'mount', 'umount', 'mkfs.ext4', 'e2fsck'];

/** Why the kernel cannot be used here; undefined where it can. */
export function whyNoKernelMount(): string | undefined {
  const missing = TOOLS.filter(tool => spawnSync(tool, ['-V']).error !== undefined);
  if (missing.length > 0) return `${missing.join(', ')} not installed`;
  if (process.getuid?.() !== 0) return 'needs root to mount';
  for (const device of ['/dev/fuse', '/dev/loop-control']) {
    try {
      accessSync(device, constants.R_OK | constants.W_OK);
    } catch {
      return `needs ${device}`;
    }
  }
  return undefined;
}

/** Does something now, and its opposite before the test's folders go. */
class Undoable {
  #undo: (() => Promise<unknown>) | undefined;

  constructor(undo: () => Promise<unknown>) {
    this.#undo = undo;
    onTestFinished(() => this.undo());
  }

  /** Once; further calls do nothing. */
  async undo(): Promise<void> {
    const undo = this.#undo;
    this.#undo = undefined;
    await undo?.();
  }
}

/** A filesystem that is mounted; `unmount` gives up the device as well. */
export class Mounted {
  readonly path: string;
  readonly #layers: readonly Undoable[];

  private constructor(path: string, layers: readonly Undoable[]) {
    this.path = path;
    this.#layers = layers;
  }

  /** From the device or file; a file gets a loop device by itself. */
  static async mount(from: string, options: { readOnly: boolean }): Promise<Mounted> {
    const path = await mkdtemp(join(tmpdir(), 'tidemark-mount-'));
    const folder = new Undoable(() => rmdir(path));
    // `noload`: a read-only look must not replay the journal, which would write.
    const mode = options.readOnly ? ['-o', 'ro,noload,loop'] : [];
    await run('mount', ['-t', 'ext4', ...mode, from, path]);
    const mount = new Undoable(() => run('umount', [path]));
    return new Mounted(path, [mount, folder]);
  }

  async unmount(): Promise<void> {
    for (const layer of this.#layers) await layer.undo();
  }
}

/** An export as a loop device. */
export class KernelDisk {
  readonly device: string;
  readonly #layers: readonly Undoable[];

  private constructor(device: string, layers: readonly Undoable[]) {
    this.device = device;
    this.#layers = layers;
  }

  static async attach(uri: string): Promise<KernelDisk> {
    const folder = await mkdtemp(join(tmpdir(), 'tidemark-fuse-'));
    const removal = new Undoable(() => rmdir(folder));
    const fuse = spawn('nbdfuse', [folder, uri], { stdio: ['ignore', 'ignore', 'inherit'] });
    const mount = new Undoable(() => endFuse(fuse, folder));
    const file = join(folder, 'nbd');
    await appears(file, fuse);
    const { stdout } = await run('losetup', ['--find', '--show', file]);
    const device = stdout.trim();
    const loop = new Undoable(() => run('losetup', ['--detach', device]));
    return new KernelDisk(device, [loop, mount, removal]);
  }

  /** Afterwards everything that was written has reached the export. */
  async detach(): Promise<void> {
    for (const layer of this.#layers) await layer.undo();
  }
}

async function appears(file: string, process: ChildProcess): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while ((await stat(file).catch(() => undefined)) === undefined) {
    if (process.exitCode !== null || performance.now() > deadline) {
      throw new Error(`nbdfuse did not show ${file}`);
    }
    await delay(POLL_MS);
  }
}

/** A loop device lets go of its file a moment after it was detached. */
async function endFuse(fuse: ChildProcess, folder: string): Promise<void> {
  if (fuse.exitCode !== null) return;
  const exited = once(fuse, 'exit');
  const deadline = performance.now() + STOP_TIMEOUT_MS;
  for (;;) {
    const failure = await run('umount', [folder]).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (failure === undefined) break;
    if (performance.now() > deadline) throw failure;
    await delay(POLL_MS);
  }
  await exited;
}
