// Volumes over gRPC.
import {
  type ArrivingCheckpoint,
  TidemarkError,
  VolumeSealed,
  type VolumeServiceServer,
  VolumeServiceService,
} from '@tidemark/proto';
import { checkId } from '../host/plain-id.ts';
import type { StreamRunner } from '../restore/stream-runner.ts';
import type { ParcelItem } from '../volume/bitmap-parcel.ts';
import type { MoveRunner } from '../volume/move-runner.ts';
import type { VolumeRegistry } from '../volume/volume-registry.ts';
import { toVolume } from './convert.ts';
import { type CallContext, query, step } from './handlers.ts';
import type { GrpcService } from './server.ts';

export function volumeService(options: {
  context: CallContext;
  volumes: VolumeRegistry;
  streams: StreamRunner;
  moves: MoveRunner;
}): GrpcService {
  const { context, volumes, streams, moves } = options;
  const methods = VolumeServiceService;
  const implementation: VolumeServiceServer = {
    createVolume: step(context, methods.createVolume, 'answer-again', async request => {
      const { volumeId, name, sizeBytes, format } = request;
      const created = await volumes.create({ volumeId, name, sizeBytes, format, state: 'ready' });
      return toVolume(created, streams);
    }),
    deleteVolume: step(context, methods.deleteVolume, 'do-again', async ({ volumeId, madeBy }) => {
      await volumes.delete(volumeId, madeBy || undefined);
      return {};
    }),
    prepareArrival: step(
      context,
      methods.prepareArrival,
      'do-again',
      ({ step: _, ...request }, { runId: madeBy }) => volumes.prepareArrival({ ...request, madeBy }),
    ),
    startMove: step(context, methods.startMove, 'do-again', (request, { runId }) =>
      moves.start({ ...request, runId: checkId(runId, 'run') }),
    ),
    sealVolume: step(context, methods.sealVolume, 'do-again', async (request, { runId }) => {
      const { createdAtMs, checkpoints } = await moves.seal({ ...request, runId });
      return VolumeSealed.fromPartial({ createdAtMs, checkpoints: [...checkpoints] });
    }),
    unsealVolume: step(context, methods.unsealVolume, 'do-again', async ({ volumeId, sealedBy }) => {
      await moves.unseal(volumeId, sealedBy || undefined);
      return {};
    }),
    withholdVolume: step(context, methods.withholdVolume, 'do-again', async ({ volumeId }, { runId }) => {
      await moves.withhold(volumeId, runId);
      return {};
    }),
    acceptArrival: step(context, methods.acceptArrival, 'do-again', async (request, { runId: madeBy }) => {
      const { volumeId, imageUri, checkpoints, createdAtMs } = request;
      await volumes.acceptArrival({ volumeId, madeBy, imageUri }, checkpoints.map(toParcelItem), createdAtMs);
      return {};
    }),
    discardArrival: step(
      context,
      methods.discardArrival,
      'do-again',
      async ({ volumeId }, { runId: madeBy }) => {
        await volumes.discardArrival(volumeId, madeBy);
        return {};
      },
    ),
    openArrival: step(context, methods.openArrival, 'do-again', ({ volumeId }) =>
      volumes.inTurn(volumeId, async volume => {
        if (volume.record.state === 'arrived') await volume.becomeReady();
        return toVolume(volume, streams);
      }),
    ),
    getVolume: query(context, methods.getVolume, ({ volumeId }) => toVolume(volumes.get(volumeId), streams)),
    listVolumes: query(context, methods.listVolumes, async () => ({
      volumes: await Promise.all(volumes.list().map(volume => toVolume(volume, streams))),
    })),
  };
  return { definition: methods, implementation };
}

function toParcelItem({ checkpoint, bitmapBytes }: ArrivingCheckpoint): ParcelItem {
  if (checkpoint === undefined)
    throw new TidemarkError('invalid-request', 'A checkpoint that arrives needs its record.');
  const { checkpointId, name, createdAtMs, granularityBytes, description, originBackupId } = checkpoint;
  checkId(checkpointId, 'checkpoint');
  return {
    checkpoint: { checkpointId, name, createdAtMs, granularityBytes, description, originBackupId },
    bitmapBytes,
  };
}
