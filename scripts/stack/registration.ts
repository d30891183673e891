// Makes the storage nodes of the stack known to the api, through the same door as everybody.

import { setTimeout as delay } from 'node:timers/promises';
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
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const known = await fetch(`${url}/v1/storage-nodes/${node.name}`, { headers: authorization, signal });
  const said = await known.text();
  if (known.ok) return requireAddress(node, JSON.parse(said) as { controlAddress: string });
  if (known.status !== 404) throw new Error(`GET storage node ${node.name}: ${said}`);
  const query = `wait=done&waitTimeoutMs=${REGISTRATION_TIMEOUT_MS}`;
  const response = await fetch(`${url}/v1/storage-nodes?${query}`, {
    method: 'POST',
    headers: { ...authorization, 'content-type': 'application/json' },
    body: JSON.stringify({ name: node.name, controlAddress: node.controlAddress }),
    signal,
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`storage node ${node.name} could not be registered: ${text}`);
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
