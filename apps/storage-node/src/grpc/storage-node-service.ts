// What the storage node says of itself.
import {
  type StorageNodeServiceServer,
  StorageNodeServiceService,
  type StorageNodeStatus,
} from '@tidemark/proto';
import { type CallContext, query } from './handlers.ts';
import type { GrpcService } from './server.ts';

export function storageNodeService(options: {
  context: Pick<CallContext, 'report'>;
  status: () => Promise<StorageNodeStatus>;
}): GrpcService {
  const implementation: StorageNodeServiceServer = {
    getStatus: query(options.context, StorageNodeServiceService.getStatus, () => options.status()),
  };
  return { definition: StorageNodeServiceService, implementation };
}
