// The intent of a replica: rows of all that is missing below it in the target repository, leases that keep what is read
// and built on, and the run that copies, oldest first.
import { randomUUID } from 'node:crypto';
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import type { Backup } from '../backup-repository.ts';
import type { CatalogTransaction } from '../catalog.ts';
import type { Repository } from '../repository-repository.ts';
import { unsoundOf } from '../retention/soundness.ts';
import type { Run } from '../run.ts';
import { requireOnline, requireOpen } from './require-online.ts';

export interface WantedReplica {
  readonly backupId: string;
  /** The target, id or name. */
  readonly repository: string;
  /** One full backup, without what it stands on. */
  readonly flatten: boolean;
  readonly speedBytesPerSecond: number | null;
  /** The rule that asks; null: somebody does. */
  readonly ruleId: string | null;
  /** Default: on whose behalf the catalog is used. */
  readonly requestedBy?: string | undefined;
  /** Of the run beside others that wait; 0, the default, before all that have a number. */
  readonly priority?: number | undefined;
}

export interface IntendedReplica {
  readonly run: Run;
  /** As it will be in the target. */
  readonly backup: Backup;
}

interface Place {
  readonly wanted: WantedReplica;
  readonly source: Repository;
  readonly target: Repository;
  /** What is asked for, and what it stands on, newest first. */
  readonly chain: readonly Backup[];
  readonly runId: string;
}

/** Within a transaction: afterwards all rows are there or, when it rejects and the transaction with it, none is. */
export async function intendReplica(
  catalog: CatalogTransaction,
  runId: string,
  wanted: WantedReplica,
): Promise<IntendedReplica> {
  const backup = await catalog.backups.get(wanted.backupId);
  const target = await catalog.repositories.getReady(wanted.repository);
  const source = await catalog.repositories.getReady(backup.repositoryId);
  if (source.id === target.id) throw sameRepository(backup, target);
  requireOnline(await catalog.storageNodes.get(source.storageNodeId));
  requireOpen(await catalog.storageNodes.get(target.storageNodeId));
  const chain = await catalog.backups.chainOf(backup.id);
  const place: Place = { wanted, source, target, chain, runId };
  const { members, parent } = await chooseMembers(catalog, place);
  for (const { id } of members) await catalog.backupLeases.take(id, 'run', runId);
  if (parent !== null) await catalog.backupLeases.take(parent.id, 'run', runId);
  return write(catalog, { ...place, members, parent });
}

interface Members {
  /** Oldest first. */
  readonly members: readonly Backup[];
  /** What the oldest stands on in the target. */
  readonly parent: Backup | null;
}

async function chooseMembers(catalog: CatalogTransaction, place: Place): Promise<Members> {
  const { wanted, target, chain } = place;
  const backup = chain[0]!;
  const twins = await catalog.backups.twinsIn(
    target.id,
    chain.map(({ checkpointId }) => checkpointId),
  );
  const twin = twins.get(backup.checkpointId);
  if (twin !== undefined) throw alreadyThere(backup, twin, target);
  if (wanted.flatten) {
    requireSound(backup, unsoundOf(chain).get(backup.id) ?? null);
    return { members: [backup], parent: null };
  }
  const members: Backup[] = [];
  for (const one of chain) {
    const there = twins.get(one.checkpointId);
    if (there?.state === 'available') return { members, parent: there };
    if (there !== undefined) throw baseNotUsable(one, there, target);
    if (one.state !== 'available') throw notAvailable(one, backup);
    const isDamaged = one.verifyResult === 'damaged' || (one.damage ?? []).length > 0;
    requireSound(one, isDamaged ? 'known to be damaged' : null);
    members.unshift(one);
  }
  return { members, parent: null };
}

async function write(catalog: CatalogTransaction, intent: Place & Members): Promise<IntendedReplica> {
  const { wanted, source, target, members, parent, runId } = intent;
  const made: Backup[] = [];
  for (const member of members) {
    const kind = wanted.flatten ? 'full' : member.kind;
    const base = made.at(-1) ?? parent;
    const reason = `${kind}: replica of backup ${member.id} of repository '${source.name}'`;
    const { volumeId, volumeName, checkpointId, checkpoint, sizeBytes, description } = member;
    const { createdAt, distrusted } = member;
    made.push(
      await catalog.backups.create(
        {
          ...{ id: randomUUID(), repositoryId: target.id, volumeId, volumeName, checkpointId, checkpoint },
          ...{ kind, reason, sizeBytes, description, createdAt, distrusted },
          ...{ parentId: base?.id ?? null, replicaOfId: member.id, compression: target.compression },
        },
        runId,
      ),
    );
  }
  const backup = made.at(-1)!;
  const request: RunRequest<'replicate'> = {
    sourceRepositoryId: source.id,
    repositoryId: target.id,
    flatten: wanted.flatten,
    parentBackupId: parent?.id ?? null,
    members: made.map(({ id, replicaOfId }) => ({ sourceBackupId: replicaOfId!, backupId: id })),
    speedBytesPerSecond: wanted.speedBytesPerSecond,
    ruleId: wanted.ruleId,
  };
  const run = await catalog.runs.create({
    ...{ id: runId, kind: 'replicate', storageNodeId: target.storageNodeId, repositoryId: target.id },
    ...{ volumeId: backup.volumeId, checkpointId: backup.checkpointId, backupId: backup.id },
    reason: `${made.length} of '${source.name}' ${made.length === 1 ? 'is' : 'are'} missing in '${target.name}'`,
    ...(wanted.requestedBy !== undefined && { requestedBy: wanted.requestedBy }),
    priority: wanted.priority ?? 0,
    request,
  });
  return { run, backup };
}

function sameRepository({ id }: Backup, { name }: Repository): TidemarkError {
  const text = `Backup ${id} is in repository '${name}' itself. Choose another repository for its replica.`;
  return new TidemarkError('invalid-request', text);
}

function alreadyThere(backup: Backup, twin: Backup, target: Repository): TidemarkError {
  const about = `Checkpoint '${backup.checkpoint}' of volume '${backup.volumeName}'`;
  const where = `${about} has backup ${twin.id} in repository '${target.name}'`;
  const [code, what] = {
    available: ['backup-exists', 'already: nothing is missing there'],
    creating: ['backup-in-use', 'which is being made. Wait for its run'],
    hidden: ['backup-in-use', 'which is on its way out. Wait for a prune run, then replicate again'],
    removing: ['backup-in-use', 'which is on its way out. Wait for its prune run, then replicate again'],
    missing: [
      'backup-not-usable',
      'whose files are missing. Put them back, or repair its difference with forget',
    ],
  }[twin.state] as ['backup-exists' | 'backup-in-use' | 'backup-not-usable', string];
  return new TidemarkError(code, `${where} ${what}.`);
}

function baseNotUsable(base: Backup, twin: Backup, target: Repository): TidemarkError {
  const isMade = twin.state === 'creating';
  const next = isMade ? 'Wait for the run that makes it' : 'Replicate flattened, as one full backup';
  return new TidemarkError(
    isMade ? 'backup-in-use' : 'backup-not-usable',
    `What it stands on, checkpoint '${base.checkpoint}', is ${twin.state} in repository '${target.name}' (backup ` +
      `${twin.id}): nothing can be built on that now. ${next}.`,
  );
}

function notAvailable(one: Backup, backup: Backup): TidemarkError {
  const text =
    one.id === backup.id
      ? `Backup ${one.id} is ${one.state}: nobody may begin to use it. Choose another backup.`
      : `Backup ${backup.id} stands on ${one.id}, which is ${one.state}. Replicate flattened, as one full backup.`;
  return new TidemarkError('backup-not-usable', text);
}

function requireSound({ id, checkpoint }: Backup, why: string | null): void {
  if (why === null) return;
  throw new TidemarkError(
    'backup-damaged',
    `Backup ${id} (checkpoint '${checkpoint}') is not sound: ${why}. A replica of it would not be, either. Make a ` +
      'new backup, which sends again what is damaged, and replicate that one flattened.',
  );
}
