// Snapshots of volumes and commits of their images over gRPC.
import { type SnapshotServiceServer, SnapshotServiceService } from '@tidemark/proto';
import { checkId } from '../host/plain-id.ts';
import type { CommitRunner } from '../volume/commit-runner.ts';
import type { VolumeRegistry } from '../volume/volume-registry.ts';
import { type CallContext, query, step } from './handlers.ts';
import type { GrpcService } from './server.ts';

export function snapshotService(options: {
  context: CallContext;
  volumes: VolumeRegistry;
  commits: CommitRunner;
  now: () => number;
}): GrpcService {
  const { context, volumes, commits, now } = options;
  const methods = SnapshotServiceService;
  const implementation: SnapshotServiceServer = {
    createSnapshot: step(context, methods.createSnapshot, 'answer-again', request =>
      volumes.inTurn(request.volumeId, volume => {
        const snapshotId = checkId(request.snapshotId, 'snapshot');
        return volume.takeSnapshot({ snapshotId, name: request.name, now });
      }),
    ),
    listSnapshots: query(context, methods.listSnapshots, ({ volumeId }) => ({
      snapshots: [...volumes.get(volumeId).record.snapshots],
    })),
    startCommit: step(context, methods.startCommit, 'do-again', request => {
      checkId(request.commitId, 'commit');
      return commits.start(request);
    }),
    finishCommit: step(context, methods.finishCommit, 'do-again', async request => {
      commits.finish(request);
      return {};
    }),
  };
  return { definition: methods, implementation };
}
