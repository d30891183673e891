// What tests of snapshots and commits do again and again with one volume: write as its guest, take snapshots, commit.
import { randomUUID } from 'node:crypto';
import type { NbdClient } from '@tidemark/nbd';
import type { JobStatus, Volume } from '@tidemark/proto';
import { MiB } from './backups.ts';
import { createVolume, readDisk, withGuest } from './live-volume.ts';
import { newStep, type ReachedStorageNode, type RunningStorageNode } from './running-storage-node.ts';

export interface Commit {
  readonly topSnapshotId?: string;
  readonly baseSnapshotId?: string;
  readonly shallow?: boolean;
  readonly active?: boolean;
  readonly deleteFiles?: boolean;
  readonly speedBytesPerSecond?: number;
}

/** One volume of 8 MiB and its guest. */
export class Disk<Node extends ReachedStorageNode = RunningStorageNode> {
  node: Node;
  readonly volume: Volume;

  constructor(node: Node, volume: Volume) {
    this.node = node;
    this.volume = volume;
  }

  static async make<Node extends ReachedStorageNode>(node: Node, format = 'raw'): Promise<Disk<Node>> {
    return new Disk(node, await createVolume(node, { format, sizeBytes: 8 * MiB }));
  }

  async guest<T>(action: (guest: NbdClient) => Promise<T>): Promise<T> {
    const { exportUri } = await this.node.clients.volumes.getVolume({ volumeId: this.volume.volumeId });
    return withGuest(exportUri, action);
  }

  /** One MiB at that place, flushed. */
  write(atMiB: number, byte: number): Promise<void> {
    return this.guest(async guest => {
      await guest.write(atMiB * MiB, Buffer.alloc(MiB, byte));
      await guest.flush();
    });
  }

  /** The first byte of each MiB. */
  async contents(): Promise<number[]> {
    const { exportUri } = await this.node.clients.volumes.getVolume({ volumeId: this.volume.volumeId });
    return firstBytes(await readDisk(exportUri));
  }

  async snapshot(name: string): Promise<string> {
    const snapshotId = randomUUID();
    const { volumeId } = this.volume;
    await this.node.clients.snapshots.createSnapshot({ step: newStep(), volumeId, snapshotId, name });
    return snapshotId;
  }

  async names(): Promise<string[]> {
    const { volumeId } = this.volume;
    const { snapshots } = await this.node.clients.snapshots.listSnapshots({ volumeId });
    return snapshots.map(({ name }) => name);
  }

  startCommit(commitId: string, options: Commit) {
    return this.node.clients.snapshots.startCommit({
      ...{ topSnapshotId: '', baseSnapshotId: '', shallow: false, active: false, deleteFiles: true },
      ...{ speedBytesPerSecond: 0, step: newStep(), volumeId: this.volume.volumeId, commitId },
      ...options,
    });
  }

  async commit(options: Commit): Promise<{ commitId: string; jobId: string; lost: string[] }> {
    const commitId = randomUUID();
    const { jobId, lostSnapshotIds } = await this.startCommit(commitId, options);
    return { commitId, jobId, lost: lostSnapshotIds };
  }

  async ready(jobId: string): Promise<JobStatus> {
    for await (const status of this.node.clients.watchJob({ jobId })) {
      if (status.state === 'ready' || status.state === 'concluded') return status;
    }
    throw new Error('the job was never ready');
  }

  finish(commitId: string, pivot: boolean) {
    const { volumeId } = this.volume;
    return this.node.clients.snapshots.finishCommit({ step: newStep(), volumeId, commitId, pivot });
  }
}

/** One byte a MiB. */
export function firstBytes(disk: Buffer): number[] {
  return Array.from({ length: disk.length / MiB }, (_, index) => disk[index * MiB]!);
}
