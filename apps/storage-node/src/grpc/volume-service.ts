// Volumes and their checkpoints over gRPC.
import {
  type CheckpointServiceServer,
  CheckpointServiceService,
  TidemarkError,
  toServiceError,
  type VolumeServiceServer,
  VolumeServiceService,
} from '@tidemark/proto';
import { checkId } from '../host/plain-id.ts';
import type { VolumeRegistry } from '../host/volume-registry.ts';
import { CHECKPOINT_GRANULARITY_BYTES } from '../limits.ts';
import { toCheckpoint, toVolume } from './convert.ts';
import { type CallContext, query, step, unimplemented } from './handlers.ts';
import type { GrpcService } from './server.ts';

export function volumeService(options: { context: CallContext; volumes: VolumeRegistry }): GrpcService {
  const { context, volumes } = options;
  const methods = VolumeServiceService;
  const implementation: VolumeServiceServer = {
    createVolume: step(context, methods.createVolume, 'answer-again', async request => {
      const { volumeId, name, sizeBytes, format } = request;
      return toVolume(await volumes.create({ volumeId, name, sizeBytes, format, state: 'ready' }));
    }),
    deleteVolume: step(context, methods.deleteVolume, 'do-again', async ({ volumeId }) => {
      await volumes.delete(volumeId);
      return {};
    }),
    getVolume: query(context, methods.getVolume, ({ volumeId }) => toVolume(volumes.get(volumeId))),
    listVolumes: query(context, methods.listVolumes, async () => ({
      volumes: await Promise.all(volumes.list().map(toVolume)),
    })),
  };
  return { definition: methods, implementation };
}

export function checkpointService(options: {
  context: CallContext;
  volumes: VolumeRegistry;
  now: () => number;
}): GrpcService {
  const { context, volumes, now } = options;
  const methods = CheckpointServiceService;
  const implementation: CheckpointServiceServer = {
    createCheckpoint: step(context, methods.createCheckpoint, 'answer-again', request =>
      volumes.inTurn(request.volumeId, async volume => {
        const checkpointId = checkId(request.checkpointId, 'checkpoint');
        await volume.addCheckpoint({
          checkpointId,
          name: request.name,
          createdAtMs: now(),
          granularityBytes: CHECKPOINT_GRANULARITY_BYTES,
        });
        return toCheckpoint(volume.chain.summaries().at(-1)!);
      }),
    ),
    deleteCheckpoint: step(context, methods.deleteCheckpoint, 'do-again', ({ volumeId, checkpointId }) =>
      volumes.inTurn(volumeId, async volume => {
        if (volume.chain.has(checkpointId)) await volume.deleteCheckpoint(checkpointId);
        return {};
      }),
    ),
    listCheckpoints: query(context, methods.listCheckpoints, ({ volumeId }) => ({
      checkpoints: volumes.get(volumeId).chain.summaries().map(toCheckpoint),
    })),
    updateCheckpoint: unimplemented(context, methods.updateCheckpoint),
    countChangedBytes: unimplemented(context, methods.countChangedBytes),
    listChangedBlocks: call => {
      call.emit('error', toServiceError(new TidemarkError('invalid-request', 'Not there yet.')));
    },
  };
  return { definition: methods, implementation };
}
