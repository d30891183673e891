// The instant of a group: fences on all storage nodes, then commits on all, then releases on all, with nothing durable
// of ours in between. It is one instant where every fence held from before the first commit until after the last; that
// this is so is recorded with the end of the step, and only then is it decided. Whatever else happens, nothing is.
import { type GroupCommitted, TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { JobFailed, toTidemarkError } from '../errors.ts';
import { COMMIT_SHARE, FENCE_SHARE, GROUP_GIVE_UP_TIMEOUT_MS, GROUP_RELEASE_TIMEOUT_MS } from '../limits.ts';
import { freeze, type HookReport, thaw } from './group-hooks.ts';
import { type GroupContext, nodesOf, onAll, type PlannedNode, tellFailure } from './group-nodes.ts';
import { type GroupProof, proofOf, requireHeld } from './group-proof.ts';
import type { Step } from './run-definition.ts';

const INSTANT = 'instant';

const instantOf = z.object({
  volumeId: z.string(),
  pointInTimeMs: z.number(),
  dirtyBytes: z.number(),
  grownBytes: z.number(),
});

export const taken = z.object({
  pointInTimeMs: z.number(),
  longestWaitMs: z.number(),
  members: z.array(instantOf),
  /** Hooks that were not told to thaw, or failed at it. */
  notThawed: z.array(z.string()),
});

export const instant: Step<'create-group'> = {
  name: INSTANT,
  once: true,
  async run(context) {
    requireFirstTry(context);
    const { reports, window } = await takeInstant(context);
    const members = window.commits.flatMap(commit => commit.members);
    const pointInTimeMs = Math.max(...members.map(member => member.pointInTimeMs));
    const proof = { ...window.proof, hooks: [...reports] };
    const notThawed = reports.filter(({ phase, error }) => phase === 'thaw' && error !== null);
    const pointInTime = new Date(pointInTimeMs);
    const { groupId } = context.request;
    return {
      output: {
        ...{ pointInTimeMs, longestWaitMs: proof.longestWaitMs },
        members: members.map(({ volumeId, pointInTimeMs: at, dirtyBytes, grownBytes }) => ({
          ...{ volumeId, pointInTimeMs: at, dirtyBytes, grownBytes },
        })),
        notThawed: notThawed.map(({ hook, error }) => `${hook}: ${error}`),
      },
      facts: { checkpointAt: pointInTime },
      // The decision.
      commit: async tx => {
        await tx.groups.decide(groupId, { pointInTime, proof: { ...proof } });
        for (const { checkpointId, pointInTimeMs: at } of members) {
          await tx.checkpoints.markReady(checkpointId, new Date(at), context.run.id);
        }
      },
    };
  },
  /** Of what was decided the hooks are told as well, where a worker died before it had told them. */
  async undo(context) {
    if (isDecided(context)) return;
    const reports = await thaw(context, `undo-thaw-${context.run.attempt}`);
    const failed = reports.find(({ error }) => error !== null);
    if (failed) throw new TidemarkError('hook-failed', `Hook ${failed.hook} did not thaw: ${failed.error}`);
  },
};

/** From here on it is kept, whatever becomes of the run. */
export function isDecided(context: GroupContext): boolean {
  return context.findOutput(INSTANT, taken) !== undefined;
}

/** A worker that died, or lost its run, may have left guests fenced, and applications frozen: that is no instant. */
function requireFirstTry({ run, request }: GroupContext): void {
  if (!run.steps.some(({ name }) => name === INSTANT)) return;
  throw new JobFailed(
    'group-interrupted',
    `The worker that made group '${request.name}' went away while its instant was taken. Nothing was decided, and ` +
      'nothing of it is left; make it again.',
  );
}

interface Window {
  readonly commits: readonly GroupCommitted[];
  readonly proof: GroupProof;
}

/** Rejects when nothing is decided; by then fences are open, and hooks are thawed, as far as they can be told. */
async function takeInstant(context: GroupContext): Promise<{ reports: HookReport[]; window: Window }> {
  const signal = AbortSignal.any([context.stop, context.cancel]);
  try {
    const frozen = await freeze(context, signal);
    const window = await fenceAndCommit(context, signal);
    // The instant is over: applications need not wait for the catalog.
    const thawed = await thaw(context, 'thaw');
    return { reports: [...frozen, ...thawed], window };
  } catch (error) {
    await Promise.all([giveUp(context), thaw(context, 'give-up-thaw')]);
    context.stop.throwIfAborted();
    throw await tellFailure(context, context.cancel.aborted ? context.cancel.reason : error);
  }
}

/** As short as it can be: each phase goes to all storage nodes at once, and nothing is written in between. */
async function fenceAndCommit(context: GroupContext, signal: AbortSignal): Promise<Window> {
  const { request, call } = context;
  const { groupId, fenceLimitMs } = request;
  const nodes = nodesOf(context);
  const began = performance.now();
  const elapsed = () => performance.now() - began;
  const within = (ms: number) => ({ signal, timeoutMs: Math.max(1, Math.round(ms)) });
  const late = lateness(fenceLimitMs, elapsed);

  const wanted = (step: string) => ({ step: call(step), groupId });
  /** With the time at which each answer was there. */
  const timed = async <T>(answer: Promise<T>) => ({ answer: await answer, atMs: elapsed() });
  const inTime = <T>(answer: Promise<T>, node: PlannedNode, share: number) =>
    timed(answer).catch(error => {
      throw late(error, node, share);
    });

  const fences = await onAll(context, nodes, ({ groups }, node) =>
    inTime(groups.fenceGroup(wanted('fence'), within(fenceLimitMs * FENCE_SHARE)), node, FENCE_SHARE),
  );
  const allFencedMs = elapsed();
  signal.throwIfAborted();
  const commitSentMs = elapsed();
  const commitMs = fenceLimitMs * COMMIT_SHARE - commitSentMs;
  const commits = await onAll(context, nodes, ({ groups }, node) =>
    inTime(groups.commitGroup(wanted('commit'), within(commitMs)), node, COMMIT_SHARE),
  );
  const allCommittedMs = elapsed();
  const releaseSentMs = elapsed();
  const releases = await onAll(context, nodes, ({ groups }) =>
    timed(groups.releaseGroup(wanted('release'), within(GROUP_RELEASE_TIMEOUT_MS))),
  );
  const times = { fenceSentMs: 0, allFencedMs, commitSentMs, allCommittedMs, releaseSentMs };
  const answers = nodes.map((node, index) => ({
    ...{ node, fence: fences[index]!, commit: commits[index]!, release: releases[index]! },
  }));
  requireHeld(request.name, answers);
  const coordinator = { ...times, allReleasedMs: elapsed() };
  const proof = proofOf(context.run.id, { limitMs: fenceLimitMs, times: coordinator, answers });
  return { commits: commits.map(({ answer }) => answer), proof };
}

/** Whose time was up is busier than the fence's limit bears, or away: nobody can tell which. */
function lateness(fenceLimitMs: number, elapsed: () => number) {
  return (thrown: unknown, { storageNode }: PlannedNode, share: number): unknown => {
    const error = toTidemarkError(thrown);
    const limitMs = Math.round(fenceLimitMs * share);
    // Timers may be a little early.
    if (error.code !== 'storage-node-unreachable' || elapsed() < limitMs * 0.9) return thrown;
    const text =
      `Storage node ${storageNode} has not held its guests and answered within ${limitMs} ms, its part of the ` +
      `fence's limit of ${fenceLimitMs} ms: it is busy, or away. Look whether it is online; then try again, at a ` +
      'quieter time or with a longer fenceLimitMs.';
    return new TidemarkError(error.code, text, thrown);
  };
}

/** Not waited for longer than a moment: a storage node opens its fence by itself, and is told again by the undoing. */
async function giveUp(context: GroupContext): Promise<void> {
  const { request, call } = context;
  const undo = (node: PlannedNode) =>
    onAll(context, [node], ({ groups }) =>
      groups.decideGroup(
        { step: call('give-up'), groupId: request.groupId, keep: false },
        { timeoutMs: GROUP_GIVE_UP_TIMEOUT_MS },
      ),
    );
  await Promise.allSettled(nodesOf(context).map(undo));
}
