// The backups of a group, once it is decided: each has a run of its own, which copies the moment that is frozen for it.
// The group's run waits for them without a worker. Grouped, one that fails takes all others with it.
import { CatalogError, type CatalogTransaction, type RunControls } from '@tidemark/catalog';
import type { RunRequest } from '@tidemark/proto';
import { TidemarkError } from '@tidemark/proto';
import { JobFailed } from '../errors.ts';
import { hasFallenBack } from './backup-target.ts';
import { onBehalfOf } from './child-runs.ts';
import { failureOf, isOpen, type MemberRun, membersOf, WAIT_FOR_BACKUPS } from './group-end.ts';
import { taken } from './group-instant.ts';
import { firstOf, type GroupContext, nodesOf, onAll, type PlannedMember } from './group-nodes.ts';
import { NotYet, type Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

const hasBackups = ({ request }: GroupContext): boolean => request.backup !== null;

/** Of checkpoints alone: they are all there is. */
export const finish: Step<'create-group'> = {
  name: 'finish',
  final: true,
  patient: true,
  appliesTo: context => !hasBackups(context),
  run: async ({ request }) => ({ commit: tx => tx.groups.end(request.groupId, { state: 'ready' }) }),
};

export const startBackups: Step<'create-group'> = {
  name: 'start-backups',
  final: true,
  patient: true,
  appliesTo: hasBackups,
  async run(context) {
    const members = nodesOf(context).flatMap(node => node.members.map(member => ({ node, member })));
    return {
      commit: async tx => {
        // Held by the step's end: what the operator says from here on is said to the members as well.
        const { pauseRequested, speedBytesPerSecond } = await tx.runs.get(context.run.id);
        const controls = { pauseRequested, speedBytesPerSecond };
        for (const { node, member } of members) {
          await startBackup(tx, context, { member, storageNodeId: node.storageNodeId, controls });
        }
      },
    };
  },
  async undo(context) {
    const { members } = await membersOf(context.catalog, context.request.groupId);
    const open = members.filter(isOpen);
    await cancelAll(context, open);
    if (open.length === 0) return;
    const text = `${open.length} backups of group '${context.request.name}' have not ended yet.`;
    throw new TidemarkError('group-not-ready', text);
  },
};

interface Start {
  readonly member: PlannedMember;
  readonly storageNodeId: string;
  readonly controls: Pick<RunControls, 'pauseRequested' | 'speedBytesPerSecond'>;
}

/** Its run, as the api writes one for a backup by itself; what it builds on was chosen with the group. */
async function startBackup(
  tx: CatalogTransaction,
  context: GroupContext,
  { member: planned, storageNodeId, controls }: Start,
): Promise<void> {
  const { volumeId, checkpointId } = planned;
  const { request, run } = context;
  const { backup } = request.members.find(member => member.volumeId === volumeId)!;
  const moment = context.output('instant', taken).members.find(member => member.volumeId === volumeId)!;
  const { repositoryId, ...how } = request.backup!;
  const row = await tx.backups.get(backup!.backupId);
  const isFull = backup!.parentBackupId === null || hasFallenBack(row, backup!.parentBackupId);
  const { pointInTimeMs, dirtyBytes, grownBytes } = moment;
  const wanted: RunRequest<'backup'> = {
    ...{ volumeId, repositoryId, backupId: backup!.backupId, checkpointId, checkpoint: request.name },
    ...{ dropCheckpointIds: [], kind: row.kind, description: request.description, direct: false },
    ...how,
    baseCheckpointId: isFull ? null : backup!.baseCheckpointId,
    parentBackupId: isFull ? null : backup!.parentBackupId,
    groupId: request.groupId,
    group: {
      ...{ runId: run.id, completion: request.completion },
      ...{ pointInTimeMs, dirtyBytes, grownBytes, also: planned.backup!.also },
    },
  };
  const ids = { storageNodeId, volumeId, checkpointId, repositoryId, backupId: backup!.backupId };
  const facts = { reason: row.reason, ...onBehalfOf(context), controls };
  await tx.runs.create({ id: backup!.runId, kind: 'backup', ...ids, ...facts, request: wanted });
  if (!isFull) await tx.backupLeases.take(backup!.parentBackupId!, 'run', backup!.runId);
}

export const waitForBackups: Step<'create-group'> = {
  name: WAIT_FOR_BACKUPS,
  // What a cancel request means hangs on how far the members are.
  final: true,
  patient: true,
  appliesTo: hasBackups,
  async run(context) {
    const { request, catalog } = context;
    const { group, members } = await membersOf(catalog, request.groupId);
    await steer(context, members);
    await tellProgress(context, members);
    const open = members.filter(isOpen);
    if (open.length > 0) {
      throw new NotYet(`${open.length} backups of the group go on`, context.limits.turnMs);
    }
    const failed = members.flatMap(one => {
      const failure = failureOf(one);
      return failure ? [{ volume: one.member.volumeName, ...failure }] : [];
    });
    const told = failed.map(({ volume, code, message }) => ({ volume, code, message }));
    if (failed.length === 0) {
      const commit = (tx: CatalogTransaction) => tx.groups.end(request.groupId, { state: 'ready' });
      return { output: { state: 'ready', failed: [] }, commit };
    }
    const isPublished =
      group.publication === 'allowed' || members.some(({ member }) => member.state === 'ready');
    if (context.cancel.aborted && !isPublished) throw context.cancel.reason;
    // Of those that were cancelled for the one that failed nobody needs to hear first.
    const first = failed.find(({ cancelled }) => !cancelled) ?? failed[0]!;
    if (request.completion === 'grouped' && !isPublished) throw groupFailed(request.name, first);
    const error = incomplete(request.name, failed, first);
    const commit = async (tx: CatalogTransaction) => {
      for (const { member, run } of members) {
        if (member.state === 'ready') continue;
        const state = run?.state === 'cancelled' ? 'cancelled' : 'failed';
        await tx.groups.setMember(request.groupId, member.volumeId, { state });
      }
      await tx.groups.end(request.groupId, { state: 'incomplete', error });
    };
    return { output: { state: 'incomplete', failed: told }, commit };
  },
};

interface FailedMember {
  readonly volume: string;
  readonly code: string;
  readonly message: string;
}

function groupFailed(group: string, { volume, code, message }: FailedMember): JobFailed {
  const text =
    `The backup of volume '${volume}' in group '${group}' failed: ${message} The group was to succeed as a whole: ` +
    'its other backups and its checkpoints are taken back. Remove the cause, then make the group again.';
  const known = new TidemarkError('group-incomplete', `${text} (${code})`);
  return new JobFailed(known.code, known.message, known);
}

function incomplete(group: string, failed: readonly FailedMember[], first: FailedMember) {
  const volumes = failed.map(({ volume }) => `'${volume}'`).join(', ');
  const message =
    `The backups of ${volumes} in group '${group}' did not come about; the others, and all checkpoints of the ` +
    `instant, are good. Volume '${first.volume}': ${first.code}: ${first.message} Make a backup of each of these ` +
    'volumes, or the group again.';
  return { code: 'group-incomplete', message };
}

/** Those that go on end where the operator cancels, and where another one failed that they are bound to. */
async function steer(context: GroupContext, members: readonly MemberRun[]): Promise<void> {
  const { request, catalog, cancel } = context;
  const isGrouped = request.completion === 'grouped';
  const hasFailed = isGrouped && members.some(one => failureOf(one) !== null);
  if (!cancel.aborted && !hasFailed) return;
  // Once all are copied and checked none is cancelled any more.
  if (isGrouped && (await catalog.groups.refusePublication(request.groupId)) === 'allowed') return;
  await cancelAll(context, members.filter(isOpen));
}

async function cancelAll({ catalog }: GroupContext, open: readonly MemberRun[]): Promise<void> {
  for (const { run } of open) {
    // It may end just now.
    await catalog.runs.requestCancel(run!.id).catch((error: unknown) => {
      if (!(error instanceof CatalogError) || error.kind !== 'ended') throw error;
    });
  }
}

async function tellProgress(context: GroupContext, members: readonly MemberRun[]): Promise<void> {
  const progress = { currentBytes: 0, totalBytes: 0, sentBytes: 0, dirtyBytes: 0 };
  for (const { run } of members) {
    for (const name of Object.keys(progress) as (keyof typeof progress)[])
      progress[name] += run?.progress[name] ?? 0;
  }
  await context.update({ progress });
}

/** Of members whose backup failed, in case that never came to its moment. */
export const releaseMoments: Step<'create-group'> = {
  name: 'release-moments',
  final: true,
  dispensable: true,
  appliesTo: context => hasBackups(context),
  async run(context) {
    const { request, catalog, call, stop } = context;
    const { members } = await catalog.groups.get(request.groupId);
    const failed = new Set(members.filter(({ state }) => state !== 'ready').map(({ volumeId }) => volumeId));
    const released = onAll(context, nodesOf(context), async ({ jobs }, node) => {
      for (const { volumeId, checkpointId: momentId } of node.members) {
        if (!failed.has(volumeId)) continue;
        const wanted = { step: call(`release ${momentId}`), volumeId, momentId };
        await tolerate(['volume-not-found'], jobs.releaseMoment(wanted, { signal: stop }));
      }
    });
    await released.catch(firstOf);
    return {};
  },
};
