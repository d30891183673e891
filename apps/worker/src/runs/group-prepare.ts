// All that can fail of a group is done before its fence; its undoing also takes back what was decided meanwhile.
import type { StorageNodeClients } from '@tidemark/proto';
import { isWorthRetrying } from '../errors.ts';
import { GROUP_PREPARE_TIMEOUT_MS, LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import { isDecided } from './group-instant.ts';
import {
  type GroupContext,
  NodesFailed,
  nodesOf,
  onAll,
  type PlannedMember,
  type PlannedNode,
  tellFailure,
} from './group-nodes.ts';
import type { Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

export const prepare: Step<'create-group'> = {
  name: 'prepare',
  async run(context) {
    const { request, call, stop, cancel, budget, limits } = context;
    const { groupId, name: groupName, fenceLimitMs } = request;
    const signal = AbortSignal.any([stop, cancel]);
    const options = { signal, timeoutMs: GROUP_PREPARE_TIMEOUT_MS };
    try {
      await onAll(context, nodesOf(context), ({ groups }, node) => {
        const members = node.members.map(member => toProto(context, member));
        const wanted = { step: call('prepare'), groupId, groupName, fenceLimitMs, members };
        return groups.prepareGroup(wanted, options);
      });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof NodesFailed)) throw error;
      // No guest waits yet: a storage node that is away for a moment is asked again.
      const [first] = error.failures;
      if (isWorthRetrying(first!.error) && budget.failures < limits.failuresMax) throw first!.error;
      throw await tellFailure(context, error);
    }
    return {};
  },
  async undo(context) {
    const undoing = isDecided(context) ? removeMembers : forget;
    await onAll(context, nodesOf(context), (clients, node) => undoing(context, clients, node)).catch(
      leftOver,
    );
  },
};

function toProto({ request }: GroupContext, { volumeId, checkpointId, backup }: PlannedMember) {
  const { onCbwError, cbwTimeoutMs, scratchLimitBytes } = request.backup ?? {};
  const moment = backup && {
    momentId: backup.backupId,
    baseCheckpointId: backup.baseCheckpointId,
    onCbwError: onCbwError ?? '',
    cbwTimeoutMs: cbwTimeoutMs ?? 0,
    scratchLimitBytes: scratchLimitBytes ?? 0,
    also: backup.also,
  };
  const checkpoint = { checkpointName: request.name, checkpointDescription: request.description };
  return { volumeId, checkpointId, ...checkpoint, moment: moment ?? undefined };
}

async function forget({ request, call, stop }: GroupContext, { groups }: StorageNodeClients): Promise<void> {
  const { groupId } = request;
  const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
  await groups.decideGroup({ step: call('undo-prepare'), groupId, keep: false }, options);
}

/** Of a group that had been decided: its checkpoints are ordinary ones, and go as such. */
async function removeMembers(
  { request, call, stop }: GroupContext,
  { groups, jobs, checkpoints }: StorageNodeClients,
  { members }: PlannedNode,
): Promise<void> {
  const { groupId } = request;
  const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
  const keep = groups.decideGroup({ step: call('undo-keep'), groupId, keep: true }, options);
  await tolerate(['group-not-found'], keep);
  for (const { volumeId, checkpointId } of members) {
    const step = call(`undo ${checkpointId}`);
    const wanted = { step, volumeId, momentId: checkpointId };
    await tolerate(['volume-not-found'], jobs.releaseMoment(wanted, options));
    const gone = checkpoints.deleteCheckpoint({ step, volumeId, checkpointId }, options);
    await tolerate(['checkpoint-not-found', 'volume-not-found'], gone);
  }
}

/** A storage node that has left the catalog has nothing that could be reached. */
function leftOver(error: unknown): void {
  if (!(error instanceof NodesFailed)) throw error;
  const left = error.failures.find(failure => failure.error.code !== 'storage-node-not-found');
  if (left) throw left.error;
}
