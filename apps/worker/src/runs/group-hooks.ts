// Hooks of a group: applications are told to hold still before the fence, and to go on after it. A thaw is sent to all
// of them, whatever came of their freeze.
import { TidemarkError } from '@tidemark/proto';
import { toTidemarkError } from '../errors.ts';
import { HOOK_ANSWER_GRACE_MS } from '../limits.ts';
import { postWebhook } from '../webhooks/post-webhook.ts';
import { type GroupContext, nodesOf } from './group-nodes.ts';

type Hook = GroupContext['request']['hooks'][number];
export type HookPhase = 'freeze' | 'thaw';

export interface HookReport {
  readonly [fact: string]: string | number | null;
  readonly hook: string;
  readonly phase: HookPhase;
  readonly tookMs: number;
  /** Null: it did as it was told. */
  readonly error: string | null;
}

/** One after the other. Rejects `hook-failed` with the first that fails; later ones were not called. */
export async function freeze(context: GroupContext, signal: AbortSignal): Promise<HookReport[]> {
  const reports: HookReport[] = [];
  for (const [index, hook] of context.request.hooks.entries()) {
    signal.throwIfAborted();
    const report = await callHook(context, hook, { phase: 'freeze', step: `freeze-${index}`, signal });
    reports.push(report);
    signal.throwIfAborted();
    if (report.error !== null) {
      const text =
        `Hook ${report.hook} of group '${context.request.name}' did not freeze: ${report.error} ` +
        'All hooks are told to thaw. Look at what it calls, then make the group again.';
      throw new TidemarkError('hook-failed', text);
    }
  }
  return reports;
}

/**
 * All of them at once, each within its own time, whatever signals say. Never rejects. `step` is unlike that of any
 * other thaw of the run: what was answered once is called again.
 */
export function thaw(context: GroupContext, step: string): Promise<HookReport[]> {
  const calls = context.request.hooks.map((hook, index) =>
    callHook(context, hook, { phase: 'thaw', step: `${step}-${index}` }),
  );
  return Promise.all(calls);
}

async function callHook(
  context: GroupContext,
  hook: Hook,
  call: { phase: HookPhase; step: string; signal?: AbortSignal },
): Promise<HookReport> {
  const beganAt = performance.now();
  let error: string | null = null;
  try {
    await ('webhook' in hook ? callWebhook(context, hook, call) : callCommand(context, hook, call));
  } catch (thrown) {
    error = toTidemarkError(thrown).message;
  }
  const tookMs = Math.round(performance.now() - beganAt);
  return { hook: nameOf(hook), phase: call.phase, tookMs, error };
}

type WebHook = Extract<Hook, { webhook: string }>;
type CommandHook = Extract<Hook, { command: string }>;

async function callWebhook(
  { request }: GroupContext,
  hook: WebHook,
  { phase, signal }: { phase: HookPhase; signal?: AbortSignal },
): Promise<void> {
  const body = JSON.stringify({
    phase,
    group: { id: request.groupId, name: request.name },
    volumes: request.members.map(({ volumeId: id, volume }) => ({ id, name: volume })),
  });
  const headers = { 'content-type': 'application/json', 'user-agent': 'tidemark' };
  const { webhook: url, timeoutMs } = hook;
  const { fault } = await postWebhook({ url, body, headers, timeoutMs, signal });
  if (fault !== null) throw new TidemarkError('hook-failed', `${fault}.`);
}

async function callCommand(
  context: GroupContext,
  hook: CommandHook,
  { phase, step, signal }: { phase: HookPhase; step: string; signal?: AbortSignal },
): Promise<void> {
  const { request, storageNodes, call } = context;
  const own = nodesOf(context).find(({ storageNodeId }) => storageNodeId === hook.storageNodeId);
  const volumeNames = (own?.members ?? []).map(({ volume }) => volume);
  const { groups } = await storageNodes.get(hook.storageNodeId);
  const { command, timeoutMs } = hook;
  const wanted = { step: call(step), hook: command, phase, volumeNames, timeoutMs, groupName: request.name };
  const options = { timeoutMs: timeoutMs + HOOK_ANSWER_GRACE_MS, ...(signal && { signal }) };
  await groups.runHook(wanted, options);
}

/** Without what may be secret in an address. */
function nameOf(hook: Hook): string {
  if (!('webhook' in hook)) return `'${hook.command}' of storage node ${hook.storageNode}`;
  const { origin, pathname } = new URL(hook.webhook);
  return `${origin}${pathname}`;
}
