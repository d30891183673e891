// Between host objects and messages: names and units differ here and nowhere else.
import {
  BackupEndpoint as BackupEndpointMessage,
  BackupStarted,
  ChangedBlocks,
  Checkpoint,
  ExportStarted,
  JobDamage as JobDamageMessage,
  JobStatus,
  Repository,
  RestoreStarted,
  ScanReport,
  StoredBackup,
  Volume,
} from '@tidemark/proto';
import type { JobSnapshot } from '../host/job-record.ts';
import type { BackupAnswer } from '../moment/backup-runner.ts';
import type { ExportAnswer } from '../moment/moment-exports.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { BackupEndpoint } from '../repository/open-backups.ts';
import { imageFileName } from '../repository/repository-layout.ts';
import type { RepositoryProblem } from '../repository/repository-scan.ts';
import type { RepositorySummary } from '../repository/repository-summary.ts';
import type { JobDamage } from '../restore/job-damage.ts';
import type { RestoreAnswer } from '../restore/restore-runner.ts';
import type { StreamRunner } from '../restore/stream-runner.ts';
import type { ChangedPart } from '../volume/changed-blocks.ts';
import type { CheckpointSummary } from '../volume/checkpoint-chain.ts';
import type { Volume as OpenVolume } from '../volume/volume.ts';

export function toRepository(summary: RepositorySummary): Repository {
  return Repository.fromPartial(summary);
}

export function toBackupEndpoint(endpoint: BackupEndpoint): BackupEndpointMessage {
  return BackupEndpointMessage.fromPartial(endpoint);
}

export function toStoredBackup(manifest: Manifest): StoredBackup {
  return StoredBackup.fromPartial({
    backupId: manifest.backupId,
    volumeId: manifest.volumeId,
    volumeName: manifest.volumeName,
    parentBackupId: manifest.parentBackupId,
    checkpointId: manifest.checkpointId,
    checkpointName: manifest.checkpointName,
    pointInTimeMs: manifest.pointInTimeMs,
    kind: manifest.kind,
    reason: manifest.reason,
    sizeBytes: manifest.sizeBytes,
    storedBytes: manifest.storedBytes,
    fileName: `backups/${imageFileName(manifest.backupId)}`,
    compression: manifest.compression,
    hidden: manifest.hidden,
    hasSums: manifest.sums !== null,
    replicaOfBackupId: manifest.replicaOfBackupId ?? '',
    sumsDigest: manifest.sums?.digest ?? '',
  });
}

export function toScanReport(report: {
  backups: readonly Manifest[];
  problems: readonly RepositoryProblem[];
}): ScanReport {
  return ScanReport.fromPartial({
    backups: report.backups.map(toStoredBackup),
    problems: report.problems.map(({ what, backupId, message }) => ({
      what,
      backupId: backupId ?? '',
      message,
    })),
  });
}

export async function toVolume(volume: OpenVolume, streams: StreamRunner): Promise<Volume> {
  const { volumeId, name, sizeBytes, format, source, state, sealedBy, snapshots } = volume.record;
  return Volume.fromPartial({
    volumeId,
    name,
    sizeBytes,
    format,
    allocatedBytes: await volume.allocatedBytes(),
    exportUri: volume.exportUri,
    checkpoints: volume.chain.summaries(),
    connections: volume.connections,
    state: sealedBy === undefined ? state : 'sealed',
    snapshots: snapshots.length,
    ...(source && {
      source: { backupId: source.backupId, uri: source.uri, leftBytes: streams.leftBytes(volume) },
    }),
  });
}

export function toCheckpoint(summary: CheckpointSummary): Checkpoint {
  return Checkpoint.fromPartial(summary);
}

export function toChangedBlocks({ ranges, ...part }: ChangedPart): ChangedBlocks {
  return ChangedBlocks.fromPartial({ ...part, ranges: [...ranges] });
}

export function toJobStatus({ runId: _, ...snapshot }: JobSnapshot): JobStatus {
  return JobStatus.fromPartial(snapshot);
}

export function toJobDamage({ bytes, ranges, truncated }: JobDamage): JobDamageMessage {
  return JobDamageMessage.fromPartial({ bytes, ranges: [...ranges], truncated });
}

export function toBackupStarted(answer: BackupAnswer): BackupStarted {
  return BackupStarted.fromPartial(answer);
}

export function toExportStarted({ contexts, ...answer }: ExportAnswer): ExportStarted {
  return ExportStarted.fromPartial({ ...answer, contexts: [...contexts] });
}

export function toRestoreStarted(answer: RestoreAnswer): RestoreStarted {
  return RestoreStarted.fromPartial(answer);
}
