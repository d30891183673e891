// What tests of replication do again and again: open a backup of one storage node, copy it to another, publish it.
import { randomUUID } from 'node:crypto';
import type { JobStatus, StoredBackup } from '@tidemark/proto';
import { createRepository } from './backups.ts';
import { jobEnd } from './live-volume.ts';
import { newStep, type RunningStorageNode } from './running-storage-node.ts';

export interface Replica {
  readonly source: StoredBackup;
  readonly plan: {
    repositoryId: string;
    backupId: string;
    volumeId: string;
    sizeBytes: number;
    parentBackupId: string;
  };
  readonly runId: string;
  readonly isFlat: boolean;
  readonly request: Parameters<RunningStorageNode['clients']['repositories']['startReplication']>[0];
}

/** From a repository of one storage node to one of another. */
export class ReplicaPair {
  readonly source: RunningStorageNode;
  readonly target: RunningStorageNode;
  readonly sourceRepositoryId: string;
  readonly repositoryId: string;

  private constructor(nodes: {
    source: RunningStorageNode;
    target: RunningStorageNode;
    from: string;
    to: string;
  }) {
    this.source = nodes.source;
    this.target = nodes.target;
    this.sourceRepositoryId = nodes.from;
    this.repositoryId = nodes.to;
  }

  static async make(
    source: RunningStorageNode,
    target: RunningStorageNode,
    sourceRepositoryId: string,
    options: { compression?: string; limitBytes?: number } = {},
  ): Promise<ReplicaPair> {
    const { compression = 'none', limitBytes = 0 } = options;
    const repositoryId = randomUUID();
    const request = {
      step: newStep(),
      repositoryId,
      name: `repository ${repositoryId}`,
      limitBytes,
      compression,
    };
    await target.clients.repositories.createRepository(request);
    return new ReplicaPair({ source, target, from: sourceRepositoryId, to: repositoryId });
  }

  /** Of the same storage node. */
  static async within(node: RunningStorageNode, sourceRepositoryId: string): Promise<ReplicaPair> {
    return new ReplicaPair({
      source: node,
      target: node,
      from: sourceRepositoryId,
      to: await createRepository(node),
    });
  }

  /** Prepares the target and opens the source. `over`: what becomes of the source's addresses. */
  async prepare(
    sourceBackupId: string,
    options: {
      parent?: string;
      isFlat?: boolean;
      over?: (uri: string) => string;
      expectedBytes?: number;
    } = {},
  ): Promise<Replica> {
    const { parent = '', isFlat = false, over = uri => uri, expectedBytes = 0 } = options;
    const { repositories } = this.source.clients;
    const place = { repositoryId: this.sourceRepositoryId, backupId: sourceBackupId };
    const source = await repositories.getBackup(place);
    const runId = randomUUID();
    const { uri, sumsUri } = await repositories.openBackup({
      step: newStep({ runId }),
      ...place,
      own: !isFlat,
    });
    const backupId = randomUUID();
    const { volumeId, sizeBytes } = source;
    const plan = { repositoryId: this.repositoryId, backupId, volumeId, sizeBytes, parentBackupId: parent };
    const prepare = { step: newStep(), ...plan, expectedBytes };
    const { uri: targetUri } = await this.target.clients.repositories.prepareBackup(prepare);
    const request = {
      step: newStep({ runId }),
      ...{ repositoryId: this.repositoryId, backupId, targetUri },
      ...{ sourceUri: over(uri), sourceSumsUri: over(sumsUri) },
      sumsDigest: isFlat ? '' : source.sumsDigest,
      speedBytesPerSecond: 0,
    };
    return { source, plan, runId, isFlat, request };
  }

  async copy({ request }: Replica, speedBytesPerSecond = 0): Promise<string> {
    const wanted = { ...request, speedBytesPerSecond };
    return (await this.target.clients.repositories.startReplication(wanted)).jobId;
  }

  async publish({ source, plan, runId, isFlat, request }: Replica): Promise<StoredBackup> {
    const { repositoryId, backupId } = plan;
    const { volumeName, checkpointId, checkpointName, pointInTimeMs } = source;
    const kind = isFlat ? 'full' : source.kind;
    const published = await this.target.clients.repositories.publishBackup({
      ...{
        step: newStep(),
        repositoryId,
        backupId,
        volumeName,
        checkpointId,
        checkpointName,
        pointInTimeMs,
        kind,
      },
      ...{ reason: `${kind}: replica`, targetUri: request.targetUri, replicaOfBackupId: source.backupId },
    });
    const place = { repositoryId: this.sourceRepositoryId, backupId: source.backupId };
    await this.source.clients.repositories.closeBackup({ step: newStep({ runId }), ...place });
    return published;
  }

  /** Prepared, copied and published. */
  async replicate(
    sourceBackupId: string,
    options: { parent?: string; isFlat?: boolean } = {},
  ): Promise<{ stored: StoredBackup; end: JobStatus }> {
    const replica = await this.prepare(sourceBackupId, options);
    const end = await jobEnd(this.target, await this.copy(replica));
    if (end.error !== undefined) throw new Error(end.error.message);
    return { stored: await this.publish(replica), end };
  }
}
