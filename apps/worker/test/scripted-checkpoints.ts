// The checkpoints of a scripted storage node: kept, named and deleted, with bitmaps that are only said to be there.
import { Checkpoint, type CreateCheckpointRequest } from '@tidemark/proto';
import type { Handlers } from './scripted-handlers.ts';
import { refuse } from './scripted-refusal.ts';

type Wanted = Pick<CreateCheckpointRequest, 'volumeId' | 'checkpointId' | 'name'> & { description?: string };

interface Host {
  readonly volumes: ReadonlyMap<string, unknown>;
  readonly checkpoints: Map<string, Checkpoint & { volumeId: string }>;
}

function requireVolume(host: Host, volumeId: string): void {
  if (!host.volumes.has(volumeId)) throw refuse('volume-not-found', volumeId);
}

export function createCheckpoint({ checkpoints }: Host, wanted: Wanted): Checkpoint {
  const { volumeId, checkpointId, name, description = '' } = wanted;
  const facts = { granularityBytes: 65_536, changedSinceBytes: 0, inconsistent: false, description };
  const createdAtMs = 1_700_000_000_000 + checkpoints.size;
  for (const checkpoint of checkpoints.values()) {
    if (checkpoint.volumeId === volumeId) checkpoint.recording = false;
  }
  const checkpoint = Checkpoint.fromPartial({ checkpointId, name, createdAtMs, recording: true, ...facts });
  checkpoints.set(checkpointId, { ...checkpoint, volumeId });
  return checkpoint;
}

export function checkpointHandlers(host: Host): Handlers {
  const { checkpoints } = host;
  const listed = (volumeId: string) => [...checkpoints.values()].filter(one => one.volumeId === volumeId);
  return {
    createCheckpoint: (request: Wanted) => {
      requireVolume(host, request.volumeId);
      return createCheckpoint(host, request);
    },
    updateCheckpoint: ({ volumeId, checkpointId, name, description }) => {
      requireVolume(host, volumeId);
      const checkpoint = checkpoints.get(checkpointId);
      if (!checkpoint) throw refuse('checkpoint-not-found', checkpointId);
      return Object.assign(checkpoint, { name, description });
    },
    listCheckpoints: ({ volumeId }) => {
      requireVolume(host, volumeId);
      return { checkpoints: listed(volumeId) };
    },
    deleteCheckpoint: ({ volumeId, checkpointId }) => {
      requireVolume(host, volumeId);
      checkpoints.delete(checkpointId);
      const last = listed(volumeId).at(-1);
      if (last) last.recording = true;
      return {};
    },
  };
}
