// Hooks of groups as requests name them: what a group calls, and what a policy keeps for the groups of its firings.
import { type RunRequest, TidemarkError, webhookUrlFault } from '@tidemark/proto';
import type { CatalogTransaction } from '../catalog.ts';
import type { WantedHook } from '../group-repository.ts';
import { requireOnline } from './require-online.ts';

type CommandHook = Extract<WantedHook, { command: string }>;

/** For a group that is made now: their storage nodes have to answer. Rejects also as `keptHooks` does. */
export async function hooksToCall(
  catalog: Pick<CatalogTransaction, 'storageNodes'>,
  hooks: readonly WantedHook[],
): Promise<RunRequest<'create-group'>['hooks']> {
  const resolved: RunRequest<'create-group'>['hooks'] = [];
  for (const hook of hooks) {
    if ('webhook' in hook) {
      requireCallable(hook.webhook);
      resolved.push({ webhook: hook.webhook, timeoutMs: hook.timeoutMs });
      continue;
    }
    const node = await storageNodeOf(catalog, hook);
    requireOnline(node);
    const { command, timeoutMs } = hook;
    resolved.push({ command, storageNodeId: node.id, storageNode: node.name, timeoutMs });
  }
  return resolved;
}

/** For groups to come: storage nodes by their ids. Rejects `invalid-request`, `storage-node-not-found`. */
export async function keptHooks(
  catalog: Pick<CatalogTransaction, 'storageNodes'>,
  hooks: readonly WantedHook[],
): Promise<WantedHook[]> {
  const kept: WantedHook[] = [];
  for (const hook of hooks) {
    if ('webhook' in hook) requireCallable(hook.webhook);
    kept.push('webhook' in hook ? hook : { ...hook, storageNode: (await storageNodeOf(catalog, hook)).id });
  }
  return kept;
}

async function storageNodeOf(
  catalog: Pick<CatalogTransaction, 'storageNodes'>,
  { command, storageNode }: CommandHook,
) {
  const node = await catalog.storageNodes.find(storageNode);
  if (node !== null) return node;
  throw new TidemarkError(
    'storage-node-not-found',
    `There is no storage node '${storageNode}' that hook '${command}' could run on. List them with ` +
      'GET /v1/storage-nodes, and name another one, or leave the hook out.',
  );
}

/** What a run was asked for can be read by whoever may look at runs. */
function requireCallable(webhook: string): void {
  const fault = webhookUrlFault(webhook);
  if (fault === null) return;
  throw new TidemarkError('invalid-request', `The address of a webhook among the hooks ${fault}.`);
}
