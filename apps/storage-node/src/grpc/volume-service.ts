// Volumes over gRPC.
import { type VolumeServiceServer, VolumeServiceService } from '@tidemark/proto';
import type { StreamRunner } from '../restore/stream-runner.ts';
import type { VolumeRegistry } from '../volume/volume-registry.ts';
import { toVolume } from './convert.ts';
import { type CallContext, query, step } from './handlers.ts';
import type { GrpcService } from './server.ts';

export function volumeService(options: {
  context: CallContext;
  volumes: VolumeRegistry;
  streams: StreamRunner;
}): GrpcService {
  const { context, volumes, streams } = options;
  const methods = VolumeServiceService;
  const implementation: VolumeServiceServer = {
    createVolume: step(context, methods.createVolume, 'answer-again', async request => {
      const { volumeId, name, sizeBytes, format } = request;
      const created = await volumes.create({ volumeId, name, sizeBytes, format, state: 'ready' });
      return toVolume(created, streams);
    }),
    deleteVolume: step(context, methods.deleteVolume, 'do-again', async ({ volumeId }) => {
      await volumes.delete(volumeId);
      return {};
    }),
    getVolume: query(context, methods.getVolume, ({ volumeId }) => toVolume(volumes.get(volumeId), streams)),
    listVolumes: query(context, methods.listVolumes, async () => ({
      volumes: await Promise.all(volumes.list().map(volume => toVolume(volume, streams))),
    })),
  };
  return { definition: methods, implementation };
}
