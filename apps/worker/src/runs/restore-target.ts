// Where a restore goes, as its storage node is asked for it.
import { RestoreInstant, RestoreVolume, type RunRequest, type StartRestoreRequest } from '@tidemark/proto';

type Request = RunRequest<'restore'>;
type Target = NonNullable<StartRestoreRequest['target']>;

export function storageNodeIdOf({ target }: Request): string {
  if ('volume' in target) return target.volume.storageNodeId;
  if ('instant' in target) return target.instant.storageNodeId;
  return 'file' in target ? target.file.storageNodeId : target.inPlace.storageNodeId;
}

/** The volume that the restore makes; undefined: none. */
export function newVolumeIdOf({ target }: Request): string | undefined {
  if ('volume' in target) return target.volume.volumeId;
  return 'instant' in target ? target.instant.volumeId : undefined;
}

export function toTarget(request: Request): Target {
  const { target, checkpoint, backupId } = request;
  const first = {
    backupId,
    checkpointId: checkpoint?.checkpointId ?? '',
    checkpointName: checkpoint?.name ?? '',
  };
  if ('file' in target) return { $case: 'file', value: { name: target.file.name } };
  if ('inPlace' in target) {
    const { volumeId, evenIfConnected, checkpointId } = target.inPlace;
    return { $case: 'inPlace', value: { volumeId, evenIfConnected, checkpointId: checkpointId ?? '' } };
  }
  if ('volume' in target) {
    const { volumeId, name, format } = target.volume;
    return { $case: 'volume', value: RestoreVolume.fromPartial({ volumeId, name, format, ...first }) };
  }
  const { volumeId, name, format } = target.instant;
  return { $case: 'instant', value: RestoreInstant.fromPartial({ volumeId, name, format, ...first }) };
}
