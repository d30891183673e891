// Makes the storage nodes of the stack known to the api, through the same door as everybody.

import { setTimeout as delay } from 'node:timers/promises';
import { ProblemFailure, type Schema, TidemarkClient } from '@tidemark/client';
import { READY_POLL_MS, READY_TIMEOUT_MS } from './limits.ts';

/** A registration calls the storage node: on a busy machine whose services have just started that takes a while. */
const REGISTRATION_TIMEOUT_MS = 120_000;

/** Resolves when the api answers that catalog and queue are there. */
export async function waitForApi(url: string, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  for (;;) {
    const answer = await fetch(`${url}/readyz`, { signal }).then(
      async response => ({ ok: response.ok, text: await response.text() }),
      (error: unknown) => ({ ok: false, text: String(error) }),
    );
    signal.throwIfAborted();
    if (answer.ok) return;
    if (performance.now() > deadline)
      throw new Error(`the api at ${url} does not become ready: ${answer.text}`);
    await delay(READY_POLL_MS, undefined, { signal });
  }
}

/** Null: the fleet does not know it. */
export async function findStorageNode(
  client: TidemarkClient,
  name: string,
): Promise<Schema<'StorageNode'> | null> {
  const params = { path: { storageNode: name } };
  return client.get('/v1/storage-nodes/{storageNode}', { params }).catch((error: unknown) => {
    if (error instanceof ProblemFailure && error.code === 'storage-node-not-found') return null;
    throw error;
  });
}

/**
 * Registers the storage node unless it is known already. `token`: where the api needs one. Rejects when it is known at
 * another address.
 */
export async function registerStorageNode(
  url: string,
  node: { name: string; controlAddress: string },
  signal: AbortSignal,
  token?: string,
): Promise<void> {
  const client = new TidemarkClient({ url, token, signal });
  const { name, controlAddress } = node;
  const known = await findStorageNode(client, name);
  if (known !== null) return requireAddress(node, known);
  const query = { wait: 'done', waitTimeoutMs: REGISTRATION_TIMEOUT_MS } as const;
  const body = { name, controlAddress };
  await client.post('/v1/storage-nodes', { params: { query }, body }).catch((error: unknown) => {
    signal.throwIfAborted();
    const why = error instanceof ProblemFailure ? `${error.message} (${error.code})` : String(error);
    throw new Error(`storage node ${name} could not be registered: ${why}`, { cause: error });
  });
}

/** At an address that is not its own, a storage node would pass for one that does not answer. */
function requireAddress(
  node: { name: string; controlAddress: string },
  known: { controlAddress: string },
): void {
  if (known.controlAddress === node.controlAddress) return;
  throw new Error(
    `storage node ${node.name} is registered at ${known.controlAddress} and now listens at ` +
      `${node.controlAddress}: let it listen at the registered address again`,
  );
}
