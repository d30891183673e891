// What tests of volumes and jobs do again and again: make a volume, write to it as a guest, back it up to
// another storage node, follow the job, restore.
import { randomUUID } from 'node:crypto';
import { NbdClient } from '@tidemark/nbd';
import {
  type JobStatus,
  RestoreVolume,
  type StartBackupRequest,
  type StoredBackup,
  type Volume,
} from '@tidemark/proto';
import { createRepository, MiB } from './backups.ts';
import { newStep, type ReachedStorageNode, type RunningStorageNode } from './running-storage-node.ts';

export const VOLUME_BYTES = 16 * MiB;

export async function createVolume(node: ReachedStorageNode, options: Partial<Volume> = {}): Promise<Volume> {
  const volumeId = randomUUID();
  return node.clients.volumes.createVolume({
    step: newStep(),
    volumeId,
    name: options.name ?? `volume-${volumeId}`,
    sizeBytes: options.sizeBytes ?? VOLUME_BYTES,
    format: options.format ?? 'raw',
  });
}

export async function withGuest<T>(uri: string, action: (guest: NbdClient) => Promise<T>): Promise<T> {
  const guest = await NbdClient.connect({ uri });
  try {
    return await action(guest);
  } finally {
    await guest.disconnect();
  }
}

export function readDisk(uri: string): Promise<Buffer> {
  return withGuest(uri, async guest => {
    const content = Buffer.alloc(guest.sizeBytes);
    await guest.read(0, content);
    return content;
  });
}

export async function jobEnd(node: ReachedStorageNode, jobId: string): Promise<JobStatus> {
  let last: JobStatus | undefined;
  for await (const status of node.clients.watchJob({ jobId })) last = status;
  if (last === undefined) throw new Error(`job ${jobId} had no status`);
  return last;
}

export interface StartedBackup {
  readonly jobId: string;
  readonly checkpointId: string;
  readonly dirtyBytes: number;
  readonly backupId: string;
}

export interface StartOptions
  extends Partial<Pick<StartBackupRequest, 'direct' | 'scratchLimitBytes' | 'onCbwError' | 'also'>> {
  readonly parent?: StartedBackup;
  readonly speedBytesPerSecond?: number;
}

/** One volume on one storage node, one repository on another. */
export class BackupPair<Node extends ReachedStorageNode = RunningStorageNode> {
  readonly source: Node;
  readonly vault: Node;
  readonly volume: Volume;
  readonly repositoryId: string;

  private constructor(source: Node, vault: Node, volume: Volume, repository: string) {
    this.source = source;
    this.vault = vault;
    this.volume = volume;
    this.repositoryId = repository;
  }

  static async make<Node extends ReachedStorageNode>(
    source: Node,
    vault: Node,
    options: { volume?: Partial<Volume>; limitBytes?: number } = {},
  ): Promise<BackupPair<Node>> {
    const volume = await createVolume(source, options.volume);
    return new BackupPair(source, vault, volume, await createRepository(vault, options.limitBytes));
  }

  /** For a volume that is there already. */
  static async of<Node extends ReachedStorageNode>(
    source: Node,
    vault: Node,
    volume: Volume,
  ): Promise<BackupPair<Node>> {
    return new BackupPair(source, vault, volume, await createRepository(vault));
  }

  /** Prepares the target and starts the job; `parent` makes it an increment. */
  async start(options: StartOptions = {}): Promise<StartedBackup> {
    const { parent, speedBytesPerSecond = 0, ...more } = options;
    const backupId = randomUUID();
    const checkpointId = randomUUID();
    const { uri, sumsUri } = await this.prepare({ backupId, parent });
    const { jobId, dirtyBytes } = await this.source.clients.jobs.startBackup({
      step: newStep(),
      volumeId: this.volume.volumeId,
      checkpointId,
      checkpointName: `at ${checkpointId}`,
      baseCheckpointId: parent?.checkpointId ?? '',
      targetUri: uri,
      sumsUri,
      speedBytesPerSecond,
      ...more,
    });
    return { jobId, checkpointId, dirtyBytes, backupId };
  }

  /** Good to repeat. */
  prepare({ backupId, parent }: { backupId: string; parent?: StartedBackup | undefined }) {
    return this.vault.clients.repositories.prepareBackup({
      step: newStep(),
      repositoryId: this.repositoryId,
      backupId,
      volumeId: this.volume.volumeId,
      sizeBytes: this.volume.sizeBytes,
      parentBackupId: parent?.backupId ?? '',
    });
  }

  /** Copies the moment of a backup that is still kept once more. */
  async continue(backup: StartedBackup, parent?: StartedBackup) {
    const { uri: targetUri, sumsUri } = await this.prepare({ ...backup, parent });
    return this.source.clients.jobs.continueBackup({
      step: newStep(),
      volumeId: this.volume.volumeId,
      checkpointId: backup.checkpointId,
      targetUri,
      sumsUri,
    });
  }

  async release({ checkpointId: momentId }: StartedBackup): Promise<void> {
    const { volumeId } = this.volume;
    await this.source.clients.jobs.releaseMoment({ step: newStep(), volumeId, momentId });
  }

  /** `targetUri`: where the whole copy went. */
  async publish(backup: StartedBackup, parent?: StartedBackup, targetUri = ''): Promise<StoredBackup> {
    const kind = parent === undefined ? 'full' : 'incremental';
    return this.vault.clients.repositories.publishBackup({
      step: newStep(),
      repositoryId: this.repositoryId,
      backupId: backup.backupId,
      volumeName: this.volume.name,
      checkpointId: backup.checkpointId,
      checkpointName: `at ${backup.checkpointId}`,
      pointInTimeMs: 1,
      kind,
      reason: `${kind}: test`,
      targetUri,
    });
  }

  /** Start to publication, and the moment released. */
  async backUp(parent?: StartedBackup): Promise<{ backup: StartedBackup; end: JobStatus }> {
    const backup = await this.start(parent === undefined ? {} : { parent });
    const end = await jobEnd(this.source, backup.jobId);
    if (end.error !== undefined) throw new Error(end.error.message);
    await this.publish(backup, parent);
    await this.release(backup);
    return { backup, end };
  }

  /** Restores to a new volume of the source's storage node and gives its contents. */
  async restored(backup: StartedBackup): Promise<Buffer> {
    const step = newStep();
    const place = { step, repositoryId: this.repositoryId, backupId: backup.backupId };
    const { uri, sizeBytes } = await this.vault.clients.repositories.openBackup(place);
    const volumeId = randomUUID();
    const value = RestoreVolume.fromPartial({ volumeId, name: `restored-${volumeId}`, format: 'raw' });
    const { jobId } = await this.source.clients.jobs.startRestore({
      step: newStep(),
      sourceUri: uri,
      sizeBytes,
      speedBytesPerSecond: 0,
      target: { $case: 'volume', value },
    });
    const end = await jobEnd(this.source, jobId);
    await this.vault.clients.repositories.closeBackup(place);
    if (end.error !== undefined) throw new Error(end.error.message);
    const volume = await this.source.clients.volumes.getVolume({ volumeId });
    return readDisk(volume.exportUri);
  }

  checkpoints() {
    const { volumeId } = this.volume;
    return this.source.clients.checkpoints.listCheckpoints({ volumeId }).then(answer => answer.checkpoints);
  }
}
