// What is different about the backup of a group's member: its point in time is there already, and where the group is
// to succeed as a whole it is published when all members have been copied and checked, or not at all.
import type { CatalogTransaction, GroupMemberState, RunError } from '@tidemark/catalog';
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import { beginAnew } from './backup-anew.ts';
import { alsoOf, prepare } from './backup-target.ts';
import { NotYet, type RunContext, type Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

type Context = RunContext<'backup'>;
type GroupMoment = NonNullable<RunRequest<'backup'>['group']>;

/** The copy of the moment that the group has made; a storage node that was not told of the decision hears of it now. */
export async function startOfGroup(context: Context, moment: GroupMoment) {
  const { request, storageNodes, controls, call, stop } = context;
  const { volumeId, checkpointId } = request;
  const { groups, jobs } = await storageNodes.ofVolume(volumeId);
  const decision = { step: call('keep-group'), groupId: request.groupId!, keep: true };
  // Told long ago, it may have forgotten the group.
  await tolerate(['group-not-found'], groups.decideGroup(decision, { signal: stop }));
  const { uri: targetUri, sumsUri } = await prepare(context);
  const speedBytesPerSecond = controls.wanted.speedBytesPerSecond ?? request.speedBytesPerSecond ?? 0;
  const wanted = { volumeId, checkpointId, targetUri, sumsUri, speedBytesPerSecond };
  const continued = jobs.continueBackup({ step: call('start-of-group'), ...wanted }, { signal: stop });
  const { jobId } = await continued.catch(async error => {
    if (!(error instanceof TidemarkError) || error.code !== 'moment-lost') throw error;
    throw await beginAnew(context, error);
  });
  const { pointInTimeMs, dirtyBytes, grownBytes } = moment;
  return { jobId, targetUri, pointInTimeMs, dirtyBytes, grownBytes, resent: alsoOf(context) };
}

/** Waits, without a worker, until nobody can keep the group from being published; a refusal ends the backup. */
export const awaitGroup: Step<'backup'> = {
  name: 'await-group',
  // Whether a cancel request comes too late is decided with the publication of all.
  final: true,
  patient: true,
  appliesTo: ({ request }) => isGrouped(request),
  async run(context) {
    const { catalog, request, cancel, limits } = context;
    const groupId = request.groupId!;
    const { groups } = catalog;
    const answer = await (cancel.aborted ? groups.refusePublication(groupId) : groups.askToPublish(groupId));
    if (answer === 'allowed') return {};
    if (answer === 'waiting')
      throw new NotYet('other members of the group are not checked yet', limits.turnMs);
    cancel.throwIfAborted();
    const text =
      'Another member of the group failed, or the group was cancelled: none of its backups is published. ' +
      'Look at the group, then make it again.';
    throw new TidemarkError('run-cancelled', text);
  },
};

function isGrouped({ group }: Context['request']): boolean {
  return group?.completion === 'grouped';
}

/** The last one to be checked lets all be published; those that wait for it are woken. */
export async function noteChecked(tx: CatalogTransaction, context: Context): Promise<void> {
  const { request } = context;
  if (!isGrouped(request)) return;
  const groupId = request.groupId!;
  await tx.groups.setMember(groupId, request.volumeId, { state: 'checked' });
  if ((await tx.groups.askToPublish(groupId)) === 'waiting') return;
  const { members } = await tx.groups.get(groupId);
  await tx.runs.wake(members.flatMap(({ runId }) => runId ?? []));
}

/** How the member has ended, for the group's run, which waits for that. */
export async function noteMember(
  tx: CatalogTransaction,
  { request }: Context,
  end: { state: GroupMemberState; error?: RunError | null },
): Promise<void> {
  if (!request.group) return;
  await tx.groups.setMember(request.groupId!, request.volumeId, end);
  await tx.runs.wake([request.group.runId]);
}

/** For the withdrawal: its checkpoint is the group's, and stays. */
export async function noteFailed(tx: CatalogTransaction, context: Context): Promise<void> {
  const { error } = await tx.runs.get(context.run.id);
  const state = error?.code === 'run-cancelled' ? 'cancelled' : 'failed';
  if (state === 'failed' && isGrouped(context.request)) {
    await tx.groups.refusePublication(context.request.groupId!);
  }
  await noteMember(tx, context, { state, error });
}
