// One full backup of the disk in each of three ways. A backup counts from the request until the image is
// closed and durable; afterwards it is compared with the disk, byte by byte, and removed.

import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { freePort } from '../process/ports.mjs';
import type { StorageNodeProcess } from '../process/storage-node-process.ts';
import type { Disk } from './disk.ts';
import { timed } from './load.ts';
import { run } from './program.ts';
import { QemuDaemon } from './qemu-daemon.ts';

/** Something that makes a backup; `backUp` gives the image's path. */
export interface BackupWay {
  readonly name: string;
  /** Whatever has to be there before the clock starts. */
  prepare(): Promise<PreparedBackup>;
}

export interface PreparedBackup {
  /** Of the image. */
  readonly path: string;
  /** Where a guest reaches the disk while it is backed up. */
  readonly guestUri: string;
  backUp(): Promise<void>;
  /** Removes everything but the image. */
  clean(): Promise<void>;
}

/** Two storage nodes, from raw to qcow2, over NBD. */
export function ourBackup(nodes: {
  alpha: StorageNodeProcess;
  beta: StorageNodeProcess;
  repositoryId: string;
  disk: Disk;
}): BackupWay {
  const { alpha, beta, repositoryId, disk } = nodes;
  const { volumeId, sizeBytes } = disk;
  const step = () => ({ runId: randomUUID(), step: 'bench', leaseEpoch: 1 });
  const prepare = async (): Promise<PreparedBackup> => {
    const [backupId, checkpointId] = [randomUUID(), randomUUID()];
    const plan = { repositoryId, backupId, volumeId, sizeBytes, parentBackupId: '' };
    const { uri: targetUri, sumsUri } = await beta.clients.repositories.prepareBackup({
      step: step(),
      ...plan,
    });
    const names = {
      volumeName: 'bench',
      checkpointName: checkpointId,
      kind: 'full',
      reason: 'full: asked for',
    };
    const copy = async (): Promise<void> => {
      const request = { volumeId, checkpointId, checkpointName: checkpointId, targetUri, sumsUri };
      const { jobId } = await alpha.clients.jobs.startBackup({
        step: step(),
        ...{ ...request, baseCheckpointId: '', speedBytesPerSecond: 0 },
      });
      for await (const { error } of alpha.clients.watchJob({ jobId })) {
        if (error !== undefined) throw new Error(`our backup failed: ${error.message}`);
      }
      const publication = { ...plan, ...names, checkpointId, pointInTimeMs: Date.now() };
      await beta.clients.repositories.publishBackup({ step: step(), ...publication });
      await alpha.clients.jobs.releaseMoment({ step: step(), volumeId, momentId: checkpointId });
    };
    return {
      guestUri: disk.uri,
      path: join(beta.stateDir, 'repositories', repositoryId, 'backups', `${backupId}.qcow2`),
      backUp: copy,
      clean: async () => {
        await alpha.clients.checkpoints.deleteCheckpoint({ step: step(), volumeId, checkpointId });
      },
    };
  };
  return { name: 'tidemark: two storage nodes, NBD', prepare };
}

/** The disk for QEMU's own backup, exported to a guest. */
const sourceArguments = ({ path }: Disk, port: number): string[] => [
  ...['--blockdev', `driver=file,node-name=source-file,filename=${path}`],
  ...['--blockdev', 'driver=raw,node-name=source,file=source-file'],
  ...['--nbd-server', `addr.type=inet,addr.host=127.0.0.1,addr.port=${port}`],
  ...['--export', 'type=nbd,id=guest,node-name=source,name=guest,writable=on'],
];

const imageArguments = (path: string): string[] => [
  ...['--blockdev', `driver=file,node-name=target-file,filename=${path}`],
  ...['--blockdev', 'driver=qcow2,node-name=target,file=target-file'],
];

/** One process, straight into a qcow2 file. */
export function qemuBackup(disk: Disk, folder: string): BackupWay {
  const prepare = async (): Promise<PreparedBackup> => {
    const path = await makeImage(disk, folder);
    const port = await freePort();
    const daemon = new QemuDaemon([...sourceArguments(disk, port), ...imageArguments(path)]);
    await daemon.start();
    const backUp = async (): Promise<void> => {
      await daemon.backUp({ device: 'source', target: 'target' });
      await closeTarget(daemon);
    };
    return { path, guestUri: `nbd://127.0.0.1:${port}/guest`, backUp, clean: () => daemon.stop() };
  };
  return { name: 'qemu-storage-daemon: one process', prepare };
}

/** Two processes, from raw to qcow2, over NBD: what ours does. */
export function qemuBackupOverNbd(disk: Disk, folder: string): BackupWay {
  const prepare = async (): Promise<PreparedBackup> => {
    const path = await makeImage(disk, folder);
    const port = await freePort();
    const server = new QemuDaemon([
      ...imageArguments(path),
      ...['--nbd-server', `addr.type=inet,addr.host=127.0.0.1,addr.port=${port}`],
      ...['--export', 'type=nbd,id=target,node-name=target,name=target,writable=on'],
    ]);
    await server.start();
    const peer = `driver=nbd,node-name=target,server.type=inet,server.host=127.0.0.1,server.port=${port}`;
    const guestPort = await freePort();
    const source = sourceArguments(disk, guestPort);
    const client = new QemuDaemon([...source, '--blockdev', `${peer},export=target`]);
    await client.start();
    const backUp = async (): Promise<void> => {
      await client.backUp({ device: 'source', target: 'target' });
      await client.command('blockdev-del', { 'node-name': 'target' });
      await server.command('block-export-del', { id: 'target', mode: 'hard' });
      await closeTarget(server);
    };
    const clean = async (): Promise<void> => {
      await client.stop();
      await server.stop();
    };
    return { path, guestUri: `nbd://127.0.0.1:${guestPort}/guest`, backUp, clean };
  };
  return { name: 'qemu-storage-daemon: two processes, NBD', prepare };
}

async function makeImage(disk: Disk, folder: string): Promise<string> {
  const path = join(folder, `${randomUUID()}.qcow2`);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(disk.sizeBytes)]);
  return path;
}

/** Closing writes the image's tables; the sync afterwards is what our publication does as well. */
async function closeTarget(daemon: QemuDaemon): Promise<void> {
  await daemon.command('blockdev-del', { 'node-name': 'target' });
  await daemon.command('blockdev-del', { 'node-name': 'target-file' });
}

/** Seconds of one backup whose image was proven equal to the disk. */
export async function measureBackup(way: BackupWay, disk: Disk): Promise<number> {
  const prepared = await way.prepare();
  try {
    await run('sync', []);
    const seconds = await timed(async () => {
      await prepared.backUp();
      await run('sync', ['--data', prepared.path]);
    });
    const images = ['-f', 'qcow2', '-F', 'raw', prepared.path, disk.path];
    await run('qemu-img', ['compare', '-q', '-U', ...images]);
    return seconds;
  } finally {
    await prepared.clean();
    await rm(prepared.path, { force: true });
  }
}
