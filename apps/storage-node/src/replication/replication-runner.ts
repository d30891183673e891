// Replication as jobs of the storage node that holds the target: it reads a backup from the exports of another
// repository, on whatever host, and writes it where the replica was prepared.
import { EngineError, isUnreadable, type TaskControl, TaskJob } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { openBackupDisk } from '../exports/backup-disk.ts';
import { nbdPlace } from '../exports/nbd-place.ts';
import type { ReconnectingNode } from '../exports/reconnecting-node.ts';
import { isNoSpace } from '../host/disk-space.ts';
import type { JobRunner } from '../host/job-runner.ts';
import type { PartialBackup } from '../repository/partial-backup.ts';
import type { RepositoryStore } from '../repository/repository-store.ts';
import { JobDamage } from '../restore/job-damage.ts';
import { sumsDigest } from '../sums/sums-digest.ts';
import { recordsOf, sumsBytes } from '../sums/sums-format.ts';
import { SumsReader } from '../sums/sums-reader.ts';
import { copyReplica } from './replica-copy.ts';

export interface ReplicationRequest {
  readonly repositoryId: string;
  readonly backupId: string;
  /** The prepared target. */
  readonly targetUri: string;
  readonly sourceUri: string;
  readonly sourceSumsUri: string;
  /** Of the source's checksums; empty: the source is a chain that becomes one backup. */
  readonly sumsDigest: string;
  readonly runId: string;
  readonly speedBytesPerSecond: number;
}

export class ReplicationRunner {
  readonly #repositories: RepositoryStore;
  readonly #jobs: JobRunner;
  readonly #reconnectMs: number;

  /** @param options.reconnectMs how long reads of the source wait for a connection that was lost */
  constructor(options: { repositories: RepositoryStore; jobs: JobRunner; reconnectMs: number }) {
    this.#repositories = options.repositories;
    this.#jobs = options.jobs;
    this.#reconnectMs = options.reconnectMs;
  }

  /**
   * Good to repeat: joins a job that is under way, and after its end begins one that goes on where that ended. Throws
   * `repository-not-found`, and `backup-not-found` where the backup is not being written to that target; there is no
   * job then. The job ends with `backup-damaged` where the source is, its damage telling where; with `io-error` where
   * the source is away; and with `repository-full`.
   */
  start(request: ReplicationRequest): { jobId: string } {
    const { repositoryId, backupId, runId, speedBytesPerSecond } = request;
    const jobId = `replication-${runId}-${backupId}`;
    const repository = this.#repositories.get(repositoryId);
    const sizeBytes = repository.sizeOfPartial(request);
    const known = this.#jobs.find(jobId);
    if (known !== undefined && !known.isEnded) return { jobId };
    if (known !== undefined) this.#jobs.dismiss(jobId);
    const damage = new JobDamage();
    const source = new Source(request, { clock: this.#jobs.clock, reconnectMs: this.#reconnectMs });
    let refusal: unknown;
    const job = new TaskJob({
      ...{ id: jobId, type: 'replication', clock: this.#jobs.clock, speedBytesPerSecond },
      onCancel: () => source.letGo(),
      clean: () => source.close(),
      work: async control => {
        control.progress.totalBytes = sizeBytes;
        const copy = repository.writing(request, partial =>
          replicate(partial, { source, damage, control, request }),
        );
        await copy.catch(error => {
          refusal = explain(error, request);
          throw error;
        });
        control.progress.currentBytes = sizeBytes;
      },
    });
    this.#jobs.registry.add(job);
    job.start();
    this.#jobs.adopt(
      job,
      async () => {
        if (refusal instanceof TidemarkError) throw refusal;
      },
      damage,
    );
    return { jobId };
  }
}

/** The source's two exports, connected when the job needs them. */
class Source {
  readonly #request: ReplicationRequest;
  readonly #options: Omit<Parameters<typeof openBackupDisk>[1], 'readOnly'>;
  readonly #open: ReconnectingNode[] = [];
  #isOver = false;

  constructor(request: ReplicationRequest, options: Omit<Parameters<typeof openBackupDisk>[1], 'readOnly'>) {
    this.#request = request;
    this.#options = options;
  }

  /** Rejects with `invalid-request` for a backup of another size, or with what the connecting says. */
  async connect(sizeBytes: number): Promise<{ disk: ReconnectingNode; sums: ReconnectingNode }> {
    const { sourceUri, sourceSumsUri } = this.#request;
    const disk = await this.#connect(sourceUri, sizeBytes);
    return { disk, sums: await this.#connect(sourceSumsUri, sumsBytes(sizeBytes)) };
  }

  /** Whatever waits for it fails soon. */
  letGo(): void {
    this.#isOver = true;
    for (const node of this.#open) node.abandon();
  }

  async close(): Promise<void> {
    for (const node of this.#open.splice(0)) await node.close();
  }

  async #connect(uri: string, sizeBytes: number): Promise<ReconnectingNode> {
    const node = await openBackupDisk(uri, { readOnly: true, ...this.#options });
    this.#open.push(node);
    if (this.#isOver) node.abandon();
    if (node.sizeBytes === sizeBytes) return node;
    const text =
      `The source in the repository at ${nbdPlace(uri)} has ${node.sizeBytes} bytes instead of ${sizeBytes}. ` +
      "Prepare a target of the backup's size.";
    throw new TidemarkError('invalid-request', text);
  }
}

async function replicate(
  partial: PartialBackup,
  options: { source: Source; damage: JobDamage; control: TaskControl; request: ReplicationRequest },
): Promise<void> {
  const { source, damage, control, request } = options;
  const { backupId, sizeBytes } = partial.plan;
  if (partial.isWhole) return;
  if (!partial.isWritable) throw notWritable(backupId);
  const { disk, sums } = await source.connect(sizeBytes);
  const { image, sums: targetSums } = partial.nodes;
  const { progress } = control;
  await copyReplica({
    source: disk,
    records: new SumsReader(sums, recordsOf(sizeBytes)),
    target: image,
    targetSums,
    sizeBytes,
    isFlat: request.sumsDigest === '',
    isUnreadable,
    onDamage: (offset, length, message) => {
      damage.add(offset, length);
      throw damaged(request, offset, message);
    },
    pace: async ({ seenBytes, sentBytes }) => {
      progress.currentBytes += seenBytes;
      progress.sentBytes += sentBytes;
      await control.pace(sentBytes);
    },
  });
  if (request.sumsDigest !== '' && (await sumsDigest(targetSums)) !== request.sumsDigest) {
    throw damagedSums(request.sourceUri, 'they are not those of its manifest');
  }
  partial.isWhole = true;
}

/** What the end of the copy means to those who asked for it. */
function explain(error: unknown, { sourceUri, backupId }: ReplicationRequest): unknown {
  if (!(error instanceof EngineError) || error.kind === 'cancelled') return error;
  if (isNoSpace(error)) {
    const text = `There is no room for replica ${backupId}: ${error.message}. Remove backups or raise the limit.`;
    return new TidemarkError('repository-full', text, error);
  }
  const { kind, context } = error;
  if (context.node === 'nbd' && isUnreadable(error)) return damagedSums(sourceUri, error.message);
  const isAway =
    kind === 'not-found' ||
    ['reconnect', 'open'].includes(context.op ?? '') ||
    context.errno === 'ECONNRESET';
  if (!isAway) return error;
  const text =
    `The repository at ${nbdPlace(sourceUri)} was lost while a backup was copied from it: ${error.message}. ` +
    'See that its storage node can be reached; what has come already is not sent again.';
  return new TidemarkError('io-error', text, error);
}

function damaged({ sourceUri }: ReplicationRequest, offset: number, message: string): TidemarkError {
  return new TidemarkError(
    'backup-damaged',
    `The backup in the repository at ${nbdPlace(sourceUri)} is damaged at ${offset}: ${message}. A replica of it ` +
      'would be, too. Make a new backup, which sends again what is damaged, and replicate that one flattened.',
  );
}

function damagedSums(sourceUri: string, message: string): TidemarkError {
  return new TidemarkError(
    'backup-damaged',
    `The checksums of the backup in the repository at ${nbdPlace(sourceUri)} are damaged: ${message}. Verify it, and ` +
      'replicate a newer one.',
  );
}

function notWritable(backupId: string): TidemarkError {
  return new TidemarkError(
    'backup-not-usable',
    `Replica ${backupId} is about to be published: nothing more is copied to it. Publish it, or discard it first.`,
  );
}
