// Repositories and their backups over gRPC.
import {
  RepositoryServiceService as methods,
  type PublishBackupRequest,
  type RepositoryServiceServer,
  TidemarkError,
} from '@tidemark/proto';
import type { Publication } from '../host/repository.ts';
import type { RepositoryStore } from '../host/repository-store.ts';
import { toBackupEndpoint, toRepository, toStoredBackup } from './convert.ts';
import { type CallContext, query, step, unimplemented } from './handlers.ts';
import type { GrpcService } from './server.ts';

export function repositoryService(options: {
  context: CallContext;
  repositories: RepositoryStore;
}): GrpcService {
  const { context, repositories } = options;
  const implementation: RepositoryServiceServer = {
    createRepository: step(context, methods.createRepository, 'answer-again', async request => {
      const { repositoryId, name, limitBytes } = request;
      const repository = await repositories.create({ repositoryId, name, limitBytes });
      return toRepository(await repository.summary());
    }),
    getRepository: query(context, methods.getRepository, async ({ repositoryId }) =>
      toRepository(await repositories.get(repositoryId).summary()),
    ),
    listRepositories: query(context, methods.listRepositories, async () => {
      const summaries = await Promise.all(repositories.list().map(repository => repository.summary()));
      return { repositories: summaries.map(toRepository) };
    }),
    prepareBackup: step(context, methods.prepareBackup, 'do-again', async request => {
      const { repositoryId, backupId, volumeId, sizeBytes, parentBackupId } = request;
      const plan = { backupId, volumeId, sizeBytes, parentBackupId };
      return toBackupEndpoint(await repositories.get(repositoryId).prepare(plan));
    }),
    publishBackup: step(context, methods.publishBackup, 'answer-again', async request =>
      toStoredBackup(await repositories.get(request.repositoryId).publish(toPublication(request))),
    ),
    discardBackup: step(context, methods.discardBackup, 'do-again', async ({ repositoryId, backupId }) => {
      await repositories.get(repositoryId).discard(backupId);
      return {};
    }),
    openBackup: step(context, methods.openBackup, 'do-again', async ({ repositoryId, backupId }, { runId }) =>
      toBackupEndpoint(await repositories.get(repositoryId).open({ backupId, runId })),
    ),
    closeBackup: step(
      context,
      methods.closeBackup,
      'do-again',
      async ({ repositoryId, backupId }, { runId }) => {
        await repositories.get(repositoryId).closeBackup({ backupId, runId });
        return {};
      },
    ),
    startVerify: unimplemented(context, methods.startVerify),
    startRemoval: unimplemented(context, methods.startRemoval),
    deleteRepository: unimplemented(context, methods.deleteRepository),
    listRepositoryWork: unimplemented(context, methods.listRepositoryWork),
    scanRepository: unimplemented(context, methods.scanRepository),
    getBackup: query(context, methods.getBackup, ({ repositoryId, backupId }) =>
      toStoredBackup(repositories.get(repositoryId).get(backupId)),
    ),
    listBackups: query(context, methods.listBackups, ({ repositoryId }) => ({
      backups: repositories.get(repositoryId).list().map(toStoredBackup),
    })),
  };
  return { definition: methods, implementation };
}

function toPublication(request: PublishBackupRequest): Publication {
  const { backupId, volumeName, checkpointId, checkpointName, pointInTimeMs, kind, reason } = request;
  if (kind !== 'full' && kind !== 'incremental') {
    throw new TidemarkError('invalid-request', `A backup is 'full' or 'incremental', not '${kind}'.`);
  }
  return { backupId, volumeName, checkpointId, checkpointName, pointInTimeMs, kind, reason };
}
