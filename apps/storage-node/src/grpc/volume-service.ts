// Volumes over gRPC.
import { type VolumeServiceServer, VolumeServiceService } from '@tidemark/proto';
import type { VolumeRegistry } from '../host/volume-registry.ts';
import { toVolume } from './convert.ts';
import { type CallContext, query, step } from './handlers.ts';
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
