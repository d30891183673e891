// Who this storage node is: an id given once, at the first start, and kept with the state.
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { StateStore } from './state-store.ts';

const NAME = 'identity.json';

const identitySchema = z.strictObject({
  version: z.literal(1),
  instanceId: z.uuid(),
  nodeName: z.string(),
  createdAtMs: z.int().nonnegative(),
});

export type Identity = z.infer<typeof identitySchema>;

/**
 * The stored identity, or a new one. Throws when the state belongs to a storage node of another name: a
 * wrong folder would otherwise serve another machine's volumes.
 */
export async function loadIdentity(
  store: StateStore,
  options: { nodeName: string; now: () => number },
): Promise<Identity> {
  const stored = await store.read(NAME, identitySchema);
  if (stored === undefined) {
    const fresh: Identity = {
      version: 1,
      instanceId: randomUUID(),
      nodeName: options.nodeName,
      createdAtMs: options.now(),
    };
    await store.write(NAME, fresh);
    return fresh;
  }
  if (stored.nodeName !== options.nodeName) {
    throw new Error(
      `State directory ${store.folder} belongs to storage node '${stored.nodeName}', not to ` +
        `'${options.nodeName}'. Set TIDEMARK_NODE_NAME or TIDEMARK_STATE_DIR right.`,
    );
  }
  return stored;
}
