// Repositories and their backups over gRPC.
import {
  RepositoryServiceService as methods,
  type PublishBackupRequest,
  type RepositoryServiceServer,
  RepositoryWork,
  TidemarkError,
} from '@tidemark/proto';
import type { ReplicationRunner } from '../replication/replication-runner.ts';
import type { CheckRunner } from '../repository/check-runner.ts';
import { BACKUP_KINDS, COMPRESSIONS, type Compression } from '../repository/manifest.ts';
import type { Publication } from '../repository/publication.ts';
import type { RemovalRunner } from '../repository/removal-runner.ts';
import type { Repository } from '../repository/repository.ts';
import type { RepositoryStore } from '../repository/repository-store.ts';
import type { RepositorySummary } from '../repository/repository-summary.ts';
import type { VerifyRunner } from '../repository/verify-runner.ts';
import { toBackupEndpoint, toRepository, toScanReport, toStoredBackup } from './convert.ts';
import { toTidemarkError } from './errors.ts';
import { type CallContext, query, step } from './handlers.ts';
import type { GrpcService } from './server.ts';

interface Options {
  readonly context: CallContext;
  readonly repositories: RepositoryStore;
  readonly checks: CheckRunner;
  readonly verifications: VerifyRunner;
  readonly removals: RemovalRunner;
  readonly replications: ReplicationRunner;
}

export function repositoryService(options: Options): GrpcService {
  const { context, repositories } = options;
  const implementation: RepositoryServiceServer = {
    createRepository: step(context, methods.createRepository, 'answer-again', async request => {
      const { repositoryId, name, limitBytes } = request;
      const compression = toCompression(request.compression) ?? 'none';
      const repository = await repositories.create({ repositoryId, name, limitBytes, compression });
      return toRepository(await repository.summary());
    }),
    getRepository: query(context, methods.getRepository, async ({ repositoryId }) =>
      toRepository(await repositories.get(repositoryId).summary()),
    ),
    listRepositories: query(context, methods.listRepositories, async () => {
      const summaries = await Promise.all(repositories.list().map(one => summaryOf(one, context)));
      return { repositories: summaries.map(toRepository) };
    }),
    prepareBackup: step(context, methods.prepareBackup, 'do-again', async request => {
      const { repositoryId, backupId, volumeId, sizeBytes, parentBackupId, expectedBytes } = request;
      const compression = toCompression(request.compression);
      const plan = { backupId, volumeId, sizeBytes, parentBackupId, compression, expectedBytes };
      return toBackupEndpoint(await repositories.get(repositoryId).prepare(plan));
    }),
    publishBackup: step(context, methods.publishBackup, 'answer-again', async request =>
      toStoredBackup(await repositories.get(request.repositoryId).publish(toPublication(request))),
    ),
    discardBackup: step(context, methods.discardBackup, 'do-again', async ({ repositoryId, backupId }) => {
      await repositories.get(repositoryId).discard(backupId);
      return {};
    }),
    openBackup: step(context, methods.openBackup, 'do-again', async (request, { runId }) => {
      const { repositoryId, backupId, verified, durable, own } = request;
      const repository = repositories.get(repositoryId);
      return toBackupEndpoint(await repository.open({ backupId, runId, verified, durable, own }));
    }),
    closeBackup: step(
      context,
      methods.closeBackup,
      'do-again',
      async ({ repositoryId, backupId }, { runId }) => {
        await repositories.get(repositoryId).closeBackup({ backupId, runId });
        return {};
      },
    ),
    ...jobMethods(options),
    deleteRepository: step(context, methods.deleteRepository, 'do-again', async ({ repositoryId }) => {
      await repositories.delete(repositoryId);
      return {};
    }),
    listRepositoryWork: query(context, methods.listRepositoryWork, ({ repositoryId }) =>
      RepositoryWork.fromPartial(repositories.get(repositoryId).work()),
    ),
    scanRepository: query(context, methods.scanRepository, async ({ repositoryId }) =>
      toScanReport(await repositories.get(repositoryId).scan()),
    ),
    getBackup: query(context, methods.getBackup, ({ repositoryId, backupId }) =>
      toStoredBackup(repositories.get(repositoryId).get(backupId)),
    ),
    listBackups: query(context, methods.listBackups, ({ repositoryId }) => ({
      backups: repositories.get(repositoryId).list().map(toStoredBackup),
    })),
  };
  return { definition: methods, implementation };
}

/** In one whose folder is away there is no room for anything: that is told in the log, and hides no other. */
async function summaryOf(repository: Repository, { report }: CallContext): Promise<RepositorySummary> {
  try {
    return await repository.summary();
  } catch (thrown) {
    report({ method: methods.listRepositories.path, error: toTidemarkError(thrown) });
    return repository.summaryWith(0);
  }
}

/** As with all jobs: a remembered answer could name one that ended with an earlier life of the process. */
function jobMethods({ context, checks, verifications, removals, replications }: Options) {
  return {
    startCheck: step(context, methods.startCheck, 'do-again', async (request, { runId }) =>
      checks.start({ ...request, runId }),
    ),
    startVerify: step(context, methods.startVerify, 'do-again', async (request, { runId }) => {
      const { repositoryId, backupId, speedBytesPerSecond, chain } = request;
      return verifications.start({ repositoryId, backupId, speedBytesPerSecond, chain, runId });
    }),
    startReplication: step(context, methods.startReplication, 'do-again', async (request, { runId }) =>
      replications.start({ ...request, runId }),
    ),
    startRemoval: step(context, methods.startRemoval, 'do-again', request => removals.start(request)),
  };
}

function toPublication(request: PublishBackupRequest): Publication {
  const { kind, backupId, targetUri, volumeName, checkpointId, checkpointName, pointInTimeMs, reason } =
    request;
  const { replicaOfBackupId } = request;
  const known = BACKUP_KINDS.find(one => one === kind);
  if (known === undefined) {
    throw new TidemarkError(
      'invalid-request',
      `A backup is one of ${BACKUP_KINDS.join(', ')}, not '${kind}'. Name one of them.`,
    );
  }
  const about = { backupId, volumeName, checkpointId, checkpointName, pointInTimeMs };
  return {
    ...{ ...about, kind: known, reason, targetUri },
    ...(replicaOfBackupId !== '' && { replicaOfBackupId }),
  };
}

/** Undefined where the caller leaves it open. */
function toCompression(text: string): Compression | undefined {
  if (text === '') return undefined;
  const known = COMPRESSIONS.find(one => one === text);
  if (known !== undefined) return known;
  throw new TidemarkError(
    'invalid-request',
    `'${text}' is no compression of backups; give one of ${COMPRESSIONS.join(', ')}.`,
  );
}
