// What is known of the request that is being answered, wherever in the service it is asked for: who asks, and what
// has to stand in the same transaction as what they change.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Acting } from '@tidemark/catalog';
import type { Actor } from './actor.ts';

export interface CurrentRequest {
  actor: Actor;
  readonly acting: Acting;
}

const storage = new AsyncLocalStorage<CurrentRequest>();

/** Undefined outside of requests. */
export const currentRequest = (): CurrentRequest | undefined => storage.getStore();

/** All that `use` starts, also later, belongs to the request. */
export const withRequest = (request: CurrentRequest, use: () => void): void => storage.run(request, use);
