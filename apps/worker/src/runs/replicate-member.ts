// One backup of a replicate run: read from the exports of its repository by the storage node of the target, compared
// there, published. What was interrupted goes on where it was, as long as the target has what has come.
import type { Backup } from '@tidemark/catalog';
import { type StorageNodeClients, type StoredBackup, TidemarkError } from '@tidemark/proto';
import { JobFailed } from '../errors.ts';
import { LONG_CALL_TIMEOUT_MS, PUBLISH_TIMEOUT_MS } from '../limits.ts';
import type { RunContext } from './run-definition.ts';
import { tolerate } from './tolerate.ts';
import { dismissJob, endJob, type WatchedJob, watchToEnd } from './watch-job.ts';

export type ReplicateContext = RunContext<'replicate'>;

export interface Member {
  readonly sourceBackupId: string;
  readonly backupId: string;
}

/** What is behind when the member begins. */
export interface Behind {
  readonly currentBytes: number;
  readonly sentBytes: number;
  readonly totalBytes: number;
}

/** Afterwards it is available, in its repository and in the catalog. Resolves with the bytes that were sent for it. */
export async function replicateMember(
  context: ReplicateContext,
  member: Member,
  behind: Behind,
): Promise<number> {
  let sentBytes = 0;
  for (let copies = 1; ; copies++) {
    try {
      const row = await context.catalog.backups.get(member.backupId);
      if (row.state === 'available') return row.sentBytes ?? 0;
      let stored = await findPublished(context, member);
      if (stored === undefined) {
        const soFar = { ...behind, sentBytes: behind.sentBytes + sentBytes };
        const copied = await copyOnce(context, { member, row, behind: soFar });
        sentBytes += copied.sentBytes;
        stored = await publish(context, { member, row, targetUri: copied.targetUri });
      }
      await record(context, { member, stored, sentBytes });
      await close(context, member, 'close');
      return sentBytes;
    } catch (error) {
      const code = error instanceof TidemarkError ? error.code : undefined;
      const isLost = code === 'backup-not-found' || code === 'job-interrupted';
      if ((!isLost && code !== 'image-invalid') || copies >= context.limits.copiesMax) throw error;
      if (code === 'image-invalid') await discard(context, member, 'discard-damaged');
    }
  }
}

/** Afterwards nothing is left of what was begun; one that was published meanwhile stays, and is recorded. */
export async function undoMember(context: ReplicateContext, member: Member): Promise<void> {
  // None any more where the run has ended, and storage nodes were away when it did.
  const row = await context.catalog.backups.find(member.backupId);
  for (const job of [await replicationJob(context, member), await checkJob(context)]) {
    await endJob(context, job, 'undo-job');
    await dismissJob(context, job, 'undo-job');
  }
  const stored = await findPublished(context, member);
  if (stored === undefined) await discard(context, member, 'undo-copy');
  else if (row?.state === 'creating') await record(context, { member, stored, sentBytes: 0 });
  await close(context, member, 'undo-close');
}

async function copyOnce(
  context: ReplicateContext,
  { member, row, behind }: { member: Member; row: Backup; behind: Behind },
): Promise<{ sentBytes: number; targetUri: string }> {
  const { request, controls, call, stop } = context;
  const { sourceBackupId, backupId } = member;
  const { repositoryId, flatten } = request;
  const source = await open(context, member);
  const targetUri = await prepare(context, row);
  const job = await replicationJob(context, member);
  await job.storageNode.repositories.startReplication(
    {
      ...{ step: call(`copy-${backupId}`), repositoryId, backupId, targetUri },
      ...{ sourceUri: source.uri, sourceSumsUri: source.sumsUri },
      sumsDigest: flatten ? '' : source.sumsDigest,
      speedBytesPerSecond: controls.wanted.speedBytesPerSecond ?? request.speedBytesPerSecond ?? 0,
    },
    { signal: stop },
  );
  const end = watchToEnd(added(context, behind), job);
  const { sentBytes } = await end.catch(error => explainEnd(context, { error, job, sourceBackupId }));
  await dismissJob(context, job, `dismiss-${backupId}`);
  await check(context, { backupId, targetUri });
  return { sentBytes, targetUri };
}

/** The repository reads back what came. */
async function check(
  context: ReplicateContext,
  { backupId, targetUri }: { backupId: string; targetUri: string },
): Promise<void> {
  const { request, controls, call, stop } = context;
  const job = await checkJob(context);
  const speedBytesPerSecond = controls.wanted.speedBytesPerSecond ?? 0;
  const wanted = { step: call(`check-${backupId}`), repositoryId: request.repositoryId, backupId, targetUri };
  await job.storageNode.repositories.startCheck({ ...wanted, speedBytesPerSecond }, { signal: stop });
  // How far the run is, is told by what has come.
  const update: ReplicateContext['update'] = ({ progress: _, ...facts }) => context.update(facts);
  await watchToEnd({ ...context, update }, job);
  await dismissJob(context, job, `check-${backupId}`);
}

async function publish(
  context: ReplicateContext,
  { member, row, targetUri }: { member: Member; row: Backup; targetUri: string },
): Promise<StoredBackup> {
  const { request, call, stop } = context;
  const { repositories } = await targetNode(context);
  const { volumeName, checkpointId, checkpointName, pointInTimeMs } = await sourceBackup(context, member);
  const { kind, reason } = row;
  const manifest = { volumeName, checkpointId, checkpointName, pointInTimeMs, kind, reason, targetUri };
  const { backupId, sourceBackupId: replicaOfBackupId } = member;
  return repositories.publishBackup(
    {
      step: call(`publish-${backupId}`),
      repositoryId: request.repositoryId,
      backupId,
      ...manifest,
      replicaOfBackupId,
    },
    { signal: stop, timeoutMs: PUBLISH_TIMEOUT_MS },
  );
}

/** Held by the run from then on: what comes next is built on it. */
async function record(
  { catalog, run }: ReplicateContext,
  { member, stored, sentBytes }: { member: Member; stored: StoredBackup; sentBytes: number },
): Promise<void> {
  const { storedBytes, fileName, compression, pointInTimeMs } = stored;
  await catalog.transaction(async tx => {
    const pointInTime = new Date(pointInTimeMs);
    await tx.backups.markStarted(member.backupId, { pointInTime, dirtyBytes: sentBytes });
    const facts = { storedBytes, fileName, sentBytes, compression: compression || 'none' };
    await tx.backups.markAvailable(member.backupId, facts, run.id);
    await tx.backupLeases.take(member.backupId, 'run', run.id);
  });
}

async function open(context: ReplicateContext, member: Member) {
  const { request, call, stop } = context;
  const { sumsDigest } = await sourceBackup(context, member);
  const { repositories } = await sourceNode(context);
  const wanted = { repositoryId: request.sourceRepositoryId, backupId: member.sourceBackupId };
  const step = call(`open-${member.sourceBackupId}`);
  const options = { step, ...wanted, own: !request.flatten, verified: false, durable: false };
  const { uri, sumsUri } = await repositories.openBackup(options, { signal: stop });
  return { uri, sumsUri, sumsDigest };
}

async function prepare(context: ReplicateContext, row: Backup): Promise<string> {
  const { request, call, stop } = context;
  const { id: backupId, volumeId, sizeBytes, parentId } = row;
  const { repositories } = await targetNode(context);
  const plan = { repositoryId: request.repositoryId, backupId, volumeId, sizeBytes };
  const expectedBytes = await expectBytes(context, row);
  const { uri } = await repositories.prepareBackup(
    {
      step: call(`prepare-${backupId}`),
      ...plan,
      parentBackupId: parentId ?? '',
      compression: '',
      expectedBytes,
    },
    { signal: stop },
  );
  return uri;
}

/** What it is going to take at most, so that a repository without room says so before anything is sent. */
async function expectBytes({ catalog, request }: ReplicateContext, row: Backup): Promise<number> {
  const chain = await catalog.backups.chainOf(row.replicaOfId!);
  const own = request.flatten ? chain : chain.slice(0, 1);
  // What is stored compressed may take more than that.
  const isKnown = own.every(({ compression, storedBytes }) => compression === 'none' && storedBytes !== null);
  const bytes = own.reduce((sum, { storedBytes }) => sum + (storedBytes ?? 0), 0);
  return isKnown ? Math.min(bytes, row.sizeBytes) : 0;
}

/** Of a source that is away for now another attempt may find it; damage is kept, so that nobody tries again. */
async function explainEnd(
  context: ReplicateContext,
  { error, job, sourceBackupId }: { error: unknown; job: WatchedJob; sourceBackupId: string },
): Promise<never> {
  if (!(error instanceof JobFailed)) throw error;
  if (error.code === 'io-error') throw new TidemarkError(error.code, error.message, error);
  if (error.code !== 'backup-damaged') throw error;
  const { catalog, run, stop } = context;
  const { ranges } = await job.storageNode.jobs.getJobDamage({ jobId: job.jobId }, { signal: stop });
  const found = ranges.map(({ offset, length }) => ({ offset, length }));
  if (found.length > 0) await catalog.backupDamage.note(sourceBackupId, found, run.id);
  throw error;
}

/** Of all members, not of this one alone. */
function added(context: ReplicateContext, behind: Behind): ReplicateContext {
  const update: ReplicateContext['update'] = ({ progress, ...facts }) => {
    if (progress === undefined) return context.update(facts);
    const currentBytes = behind.currentBytes + (progress.currentBytes ?? 0);
    const sentBytes = behind.sentBytes + (progress.sentBytes ?? 0);
    return context.update({ ...facts, progress: { currentBytes, sentBytes, totalBytes: behind.totalBytes } });
  };
  return { ...context, update };
}

async function findPublished(
  context: ReplicateContext,
  { backupId }: Member,
): Promise<StoredBackup | undefined> {
  const { repositories } = await targetNode(context);
  const { repositoryId } = context.request;
  let found: StoredBackup | undefined;
  const get = repositories.getBackup({ repositoryId, backupId }, { signal: context.stop });
  await tolerate(
    ['backup-not-found'],
    get.then(stored => (found = stored)),
  );
  return found;
}

async function sourceBackup(context: ReplicateContext, member: Member): Promise<StoredBackup> {
  const { repositories } = await sourceNode(context);
  const wanted = { repositoryId: context.request.sourceRepositoryId, backupId: member.sourceBackupId };
  try {
    return await repositories.getBackup(wanted, { signal: context.stop });
  } catch (error) {
    // Not to be taken for a target that is gone, which would be made anew.
    if (!(error instanceof TidemarkError) || error.code !== 'backup-not-found') throw error;
    throw new TidemarkError('backup-not-usable', `The source is gone: ${error.message}`, error);
  }
}

async function discard(context: ReplicateContext, { backupId }: Member, step: string): Promise<void> {
  const { request, call, stop } = context;
  const { repositories } = await targetNode(context);
  const wanted = { step: call(`${step}-${backupId}`), repositoryId: request.repositoryId, backupId };
  const discarded = repositories.discardBackup(wanted, { signal: stop });
  await tolerate(['backup-not-found', 'repository-not-found'], discarded);
}

async function close(context: ReplicateContext, { sourceBackupId }: Member, step: string): Promise<void> {
  const { request, call, stop } = context;
  const { repositories } = await sourceNode(context);
  const place = { repositoryId: request.sourceRepositoryId, backupId: sourceBackupId };
  const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
  const closed = repositories.closeBackup({ step: call(`${step}-${sourceBackupId}`), ...place }, options);
  await tolerate(['backup-not-found', 'repository-not-found'], closed);
}

async function replicationJob(context: ReplicateContext, { backupId }: Member): Promise<WatchedJob> {
  return { storageNode: await targetNode(context), jobId: `replication-${context.run.id}-${backupId}` };
}

async function checkJob(context: ReplicateContext): Promise<WatchedJob> {
  return { storageNode: await targetNode(context), jobId: `check-${context.run.id}` };
}

function sourceNode({ request, storageNodes }: ReplicateContext): Promise<StorageNodeClients> {
  return storageNodes.ofRepository(request.sourceRepositoryId);
}

function targetNode({ request, storageNodes }: ReplicateContext): Promise<StorageNodeClients> {
  return storageNodes.ofRepository(request.repositoryId);
}
