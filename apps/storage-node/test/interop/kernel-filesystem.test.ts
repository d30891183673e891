// Goal: a filesystem that a kernel keeps on a volume comes back from its backups whole. Method: ext4 on the
// export through nbdfuse and a loop device; a full backup while files are being written, an increment of the
// disk at rest; both restored to plain files and judged by e2fsck and by a kernel mount.
//
// What is right for each. The increment was taken after unmounting: `e2fsck -fn` must find nothing at all.
// The full one was taken in the middle of writing, without asking the filesystem: it is what a power cut
// leaves, so a copy of it first has its journal replayed (`e2fsck -fp`, which refuses whatever a journal
// does not explain), and then `e2fsck -fn` must find nothing. Files that had been fsynced before the backup
// was asked for must be there, equal.
import { createHash, randomBytes } from 'node:crypto';
import { copyFile, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { MiB } from '../../src/testing/backups.ts';
import { BackupPair, jobEnd, type StartedBackup } from '../../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../../src/testing/temporary-folder.ts';
import { runTool } from '../../src/testing/tools.ts';
import { KernelDisk, Mounted, whyNoKernelMount } from './kernel-mount.ts';

const VOLUME_BYTES = 256 * MiB;
/** Slow enough that the writer changes much of the disk before it was copied. */
const BACKUP_BYTES_PER_SECOND = 32 * MiB;

/** Name → SHA-256 of the content. */
type Digests = Map<string, string>;

const digest = (content: Buffer): string => createHash('sha256').update(content).digest('hex');

/** Afterwards the file survives a power cut. */
async function writeDurably(folder: string, name: string, content: Buffer): Promise<void> {
  const file = await open(join(folder, name), 'w');
  await file.writeFile(content);
  await file.sync();
  await file.close();
  const parent = await open(folder);
  await parent.sync();
  await parent.close();
}

async function writeFiles(folder: string, prefix: string, sizes: readonly number[]): Promise<Digests> {
  const digests: Digests = new Map();
  for (const [index, size] of sizes.entries()) {
    const name = `${prefix}-${index}`;
    const content = randomBytes(size);
    await writeDurably(folder, name, content);
    digests.set(name, digest(content));
  }
  return digests;
}

/** Writes file after file until stopped; `digests` has those that are durable. */
class BusyWriter {
  readonly digests: Digests = new Map();
  readonly #ended: Promise<void>;
  #stopping = false;

  constructor(folder: string) {
    this.#ended = this.#run(folder);
    this.#ended.catch(() => undefined); // passed on by `stop`
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#ended;
  }

  async #run(folder: string): Promise<void> {
    for (let index = 0; !this.#stopping; index++) {
      const written = await writeFiles(folder, `busy-${index % 200}`, [100 + index * 37, 150_000]);
      for (const [name, value] of written) this.digests.set(name, value);
    }
  }
}

async function expectFiles(image: string, expected: Digests): Promise<void> {
  const mounted = await Mounted.mount(image, { readOnly: true });
  for (const [name, value] of expected) {
    expect(digest(await readFile(join(mounted.path, name))), name).toBe(value);
  }
  await mounted.unmount();
}

/** The path of a plain file that holds the backup's disk. */
async function restoreToFile(pair: BackupPair, backup: StartedBackup, name: string): Promise<string> {
  const { repositoryId, source, vault } = pair;
  const place = { step: newStep(), repositoryId, backupId: backup.backupId };
  const { uri, sizeBytes } = await vault.clients.repositories.openBackup(place);
  const { jobId, filePath } = await source.clients.jobs.startRestore({
    ...{ step: newStep(), sourceUri: uri, sizeBytes, speedBytesPerSecond: 0 },
    target: { $case: 'file', value: { name } },
  });
  expect((await jobEnd(source, jobId)).error).toBeUndefined();
  await vault.clients.repositories.closeBackup(place);
  return filePath;
}

/** Backs up while files are written; gives what was durable before the backup was asked for. */
async function backUpWhileWriting(pair: BackupPair): Promise<{ full: StartedBackup; before: Digests }> {
  const disk = await KernelDisk.attach(pair.volume.exportUri);
  await runTool('mkfs.ext4', '-q', disk.device);
  const { path, unmount } = await mountWritable(disk);
  const first = await writeFiles(path, 'first', [0, 1, 4096, 70_000, 3 * MiB, 20 * MiB]);
  const writer = new BusyWriter(path);
  onTestFinished(() => writer.stop().catch(() => undefined));
  await expect.poll(() => writer.digests.size).toBeGreaterThan(10);
  const before = new Map(first);
  const full = await pair.start({ speedBytesPerSecond: BACKUP_BYTES_PER_SECOND });
  const durable = writer.digests.size;
  const end = await jobEnd(pair.source, full.jobId);
  expect(end.error).toBeUndefined();
  expect(writer.digests.size).toBeGreaterThan(durable);
  await writer.stop();
  await pair.publish(full);
  await unmount();
  await disk.detach();
  return { full, before };
}

async function mountWritable(disk: KernelDisk): Promise<{ path: string; unmount: () => Promise<void> }> {
  const mounted = await Mounted.mount(disk.device, { readOnly: false });
  return { path: mounted.path, unmount: () => mounted.unmount() };
}

/** What a power cut leaves: the journal is replayed, and then nothing is wrong. */
async function expectRecoverable(image: string): Promise<string> {
  const copy = join(await temporaryFolder(), 'recovered.raw');
  await copyFile(image, copy);
  // Exit code 1 says that something was put right, 4 and above that something could not be.
  await runTool('e2fsck', '-fp', copy).catch((error: { code?: number; stdout?: string }) => {
    expect(error.code, error.stdout).toBe(1);
  });
  await runTool('e2fsck', '-fn', copy);
  return copy;
}

test('ext4 of a real kernel comes back whole, from a live and from a quiet backup', async context => {
  const reason = whyNoKernelMount();
  if (reason !== undefined && process.env.CI) throw new Error(reason);
  context.skip(reason !== undefined, reason);
  const [alpha, beta] = [await RunningStorageNode.start(), await RunningStorageNode.start()];
  const pair = await BackupPair.make(alpha, beta, { volume: { sizeBytes: VOLUME_BYTES } });
  const { full, before } = await backUpWhileWriting(pair);

  const disk = await KernelDisk.attach(pair.volume.exportUri);
  const { path, unmount } = await mountWritable(disk);
  const changed = await writeFiles(path, 'second', [10, 5 * MiB]);
  await rename(join(path, 'first-3'), join(path, 'renamed'));
  await rm(join(path, 'first-5'));
  const digests = new Map([...before, ...changed]);
  digests.set('renamed', before.get('first-3')!);
  for (const gone of ['first-3', 'first-5']) digests.delete(gone);
  await unmount();
  await disk.detach();
  const increment = await pair.backUp(full);
  expect(increment.end.sentBytes).toBeLessThan(VOLUME_BYTES / 2);

  const live = await restoreToFile(pair, full, 'live.raw');
  await expectFiles(await expectRecoverable(live), before);
  const quiet = await restoreToFile(pair, increment.backup, 'quiet.raw');
  await runTool('e2fsck', '-fn', quiet);
  await expectFiles(quiet, digests);
});
