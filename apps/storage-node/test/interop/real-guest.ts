// A guest with a kernel of its own: Debian's kernel in an emulated machine, with a disk on an export, and a busybox
// that writes files until it is told to stop and then reads all of them again, or does what it is told.
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { chmod, copyFile, mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';

const run = promisify(execFile);

const TOOLS = ['qemu-system-x86_64', 'busybox', 'cpio', 'mkfs.ext4', 'e2fsck', 'nbdcopy'];
/** In the order in which they need each other. */
const MODULES = [
  'virtio/virtio_ring',
  'virtio/virtio',
  'virtio/virtio_pci_modern_dev',
  'virtio/virtio_pci_legacy_dev',
  'virtio/virtio_pci',
  'block/virtio_blk',
];
const BUSYBOX = '/bin/busybox';
/** Emulated, on a machine that does other things. */
const STEP_TIMEOUT_MS = 120_000;

const START = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /dev /mnt /tmp
mount -t proc none /proc
mount -t devtmpfs none /dev
for module in /modules/*; do insmod $module || echo "guest: no $module"; done
`;

/** Each file is durable before it is announced. Files are kept apart by number and found by their digests. */
const WRITER = `${START}
mount -t ext4 /dev/vda /mnt || { echo "guest: cannot mount"; poweroff -f; }
( read word < /dev/console; touch /tmp/stop ) &
count=0
while [ ! -e /tmp/stop ]; do
  count=$((count + 1))
  dd if=/dev/urandom of=/mnt/file-$((count % 60)) bs=64k count=4 conv=fsync 2>/dev/null
  sha256sum /mnt/file-$((count % 60)) > /tmp/sum-$((count % 60))
  echo "guest: wrote $count"
done
umount /mnt && mount -t ext4 /dev/vda /mnt
cat /tmp/sum-* > /tmp/sums
if sha256sum -c -s /tmp/sums; then echo "guest: all files are whole"; else echo "guest: files are damaged"; fi
umount /mnt && echo "guest: done"
poweroff -f
`;

/** One line, one command. */
const SHELL = `${START}
echo "guest: ended 0"
while read line; do
  eval "$line" > /tmp/out 2>&1
  status=$?
  sed 's/^/guest: /' /tmp/out
  echo "guest: ended $status"
done < /dev/console
`;

interface Kernel {
  readonly image: string;
  readonly modules: string;
}

function findKernel(): Kernel | undefined {
  if (!existsSync('/lib/modules') || !existsSync('/boot')) return undefined;
  const versions = readdirSync('/lib/modules').sort().reverse();
  for (const version of versions) {
    const image = `/boot/vmlinuz-${version}`;
    const modules = `/lib/modules/${version}/kernel/drivers`;
    if (existsSync(image) && existsSync(join(modules, `${MODULES.at(-1)}.ko`))) return { image, modules };
  }
  return undefined;
}

/** Why there can be no such guest here; undefined where there can. */
export function whyNoGuest(): string | undefined {
  const missing = TOOLS.filter(tool => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0);
  if (missing.length > 0) return `${missing.join(', ')} not installed`;
  return findKernel() === undefined ? 'no kernel with virtio_blk in /boot' : undefined;
}

/** The machine's first files: busybox, modules, and what it does. */
async function makeInitramfs(folder: string, { modules }: Kernel, init: string): Promise<string> {
  const root = join(folder, 'initramfs');
  await mkdir(join(root, 'bin'), { recursive: true });
  await mkdir(join(root, 'modules'));
  await copyFile(BUSYBOX, join(root, 'bin/busybox'));
  for (const [index, module] of MODULES.entries()) {
    await copyFile(join(modules, `${module}.ko`), join(root, 'modules', `${index}-${basename(module)}.ko`));
  }
  await writeFile(join(root, 'init'), init);
  await chmod(join(root, 'init'), 0o755);
  const image = join(folder, 'initramfs.cpio');
  await run('sh', ['-c', 'cd "$1" && find . | cpio --quiet -o -H newc > "$2"', 'sh', root, image]);
  return image;
}

export class RealGuest {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  readonly #waiting = new Set<() => void>();

  private constructor(child: ChildProcess) {
    this.#child = child;
    createInterface({ input: child.stdout! }).on('line', line => {
      if (!line.includes('guest: ')) return;
      this.#lines.push(line.slice(line.indexOf('guest: ') + 'guest: '.length).trim());
      for (const wake of this.#waiting) wake();
    });
  }

  /** Boots with the export as its only disk, and writes files. It ends with the test at the latest. */
  static boot(folder: string, uri: string): Promise<RealGuest> {
    return RealGuest.#boot(folder, uri, WRITER);
  }

  /** The same, but it does what `run` says; the disk is /dev/vda. */
  static async bootShell(folder: string, uri: string): Promise<RealGuest> {
    const guest = await RealGuest.#boot(folder, uri, SHELL);
    await guest.#until('its first command', () => guest.#ended !== undefined);
    return guest;
  }

  static async #boot(folder: string, uri: string, init: string): Promise<RealGuest> {
    const kernel = findKernel()!;
    const initramfs = await makeInitramfs(folder, kernel, init);
    const child = spawn(
      'qemu-system-x86_64',
      [
        ...[
          '-accel',
          'tcg',
          '-m',
          '256',
          '-display',
          'none',
          '-serial',
          'stdio',
          '-monitor',
          'none',
          '-no-reboot',
        ],
        ...['-nic', 'none', '-kernel', kernel.image, '-initrd', initramfs],
        ...['-append', 'console=ttyS0 quiet panic=-1'],
        ...['-drive', `file=${uri},format=raw,if=virtio,cache=none,discard=unmap`],
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    onTestFinished(() => void child.kill('SIGKILL'));
    return new RealGuest(child);
  }

  /** How many files it has written. */
  get written(): number {
    const last = this.#lines.findLast(line => line.startsWith('wrote '));
    return last === undefined ? 0 : Number(last.slice('wrote '.length));
  }

  /** Resolves when it has written so many more files than now. */
  async writes(more: number): Promise<void> {
    const goal = this.written + more;
    await this.#until(`${goal} files`, () => this.written >= goal);
  }

  /** Its output. Rejects when it fails. */
  async run(command: string): Promise<string> {
    this.#lines.length = 0;
    this.#child.stdin!.write(`${command}\n`);
    await this.#until(`the end of '${command}'`, () => this.#ended !== undefined);
    const output = this.#lines.slice(0, -1).join('\n');
    if (this.#ended !== 'ended 0') throw new Error(`${command}: ${this.#ended}: ${output}`);
    return output;
  }

  /** Turns the machine off as it is. */
  async powerOff(): Promise<void> {
    const exited = once(this.#child, 'exit');
    this.#child.stdin!.write('poweroff -f\n');
    await exited;
  }

  /** Of the last command. */
  get #ended(): string | undefined {
    const last = this.#lines.at(-1);
    return last?.startsWith('ended ') ? last : undefined;
  }

  /** Tells it to stop; resolves with what it found, once it is off. */
  async stop(): Promise<string[]> {
    const exited = once(this.#child, 'exit');
    this.#child.stdin!.write('stop\n');
    await this.#until('done', () => this.#lines.at(-1) === 'done');
    await exited;
    return this.#lines.filter(line => !line.startsWith('wrote '));
  }

  async #until(what: string, holds: () => boolean): Promise<void> {
    const late = AbortSignal.timeout(STEP_TIMEOUT_MS);
    while (!holds()) {
      if (late.aborted || this.#child.exitCode !== null) {
        throw new Error(`the guest never came to ${what}; it said: ${this.#lines.slice(-5).join(' | ')}`);
      }
      await new Promise<void>(resolve => {
        const wake = () => {
          this.#waiting.delete(wake);
          clearTimeout(timer);
          resolve();
        };
        const timer = setTimeout(wake, 1000);
        this.#waiting.add(wake);
      });
    }
  }
}
