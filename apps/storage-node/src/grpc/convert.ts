// Between host objects and messages: names and units differ here and nowhere else.
import type {
  BackupEndpoint as BackupEndpointMessage,
  Repository,
  StoredBackup,
  Volume,
} from '@tidemark/proto';
import type { Manifest } from '../host/manifest.ts';
import type { BackupEndpoint } from '../host/open-backups.ts';
import type { RepositorySummary } from '../host/repository.ts';
import { imageFileName } from '../host/repository-layout.ts';
import type { Volume as OpenVolume } from '../host/volume.ts';

export function toRepository(summary: RepositorySummary): Repository {
  return { ...summary };
}

export function toBackupEndpoint(endpoint: BackupEndpoint): BackupEndpointMessage {
  return { ...endpoint };
}

export function toStoredBackup(manifest: Manifest): StoredBackup {
  return {
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
  };
}

export async function toVolume(volume: OpenVolume): Promise<Volume> {
  const { volumeId, name, sizeBytes, format } = volume.record;
  return {
    volumeId,
    name,
    sizeBytes,
    format,
    allocatedBytes: await volume.allocatedBytes(),
    exportUri: volume.exportUri,
    checkpoints: volume.chain.summaries(),
  };
}
