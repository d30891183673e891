// What is known of the request that is being answered, wherever in the service it is asked for: who asks, and what has
// to stand in the same transaction as what they change.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Acting, CatalogTransaction } from '@tidemark/catalog';
import { parseSelector, type Selector } from '@tidemark/proto';
import type { Actor } from './actor.ts';

/** What a call that starts a run is answered at once: all that is needed to answer it again. */
export interface AcceptedAnswer {
  readonly body: object;
  readonly location: string;
}

type Begin = (transaction: CatalogTransaction) => Promise<void>;
type Commit = (transaction: CatalogTransaction, runIds: readonly string[]) => Promise<void>;

export class CurrentRequest implements Acting {
  readonly name: string;
  readonly visible: Selector;
  /** Set by who starts a run, within the transaction that does. */
  accepted: AcceptedAnswer | null = null;
  readonly #begin: Begin[] = [];
  readonly #commit: Commit[] = [];

  constructor(actor: Actor) {
    this.name = actor.name;
    this.visible = parseSelector(actor.scope);
  }

  /** First in each transaction of the request, in the order in which they were added. */
  onBegin(hook: Begin): void {
    this.#begin.push(hook);
  }

  /** Last in each transaction of the request. */
  onCommit(hook: Commit): void {
    this.#commit.push(hook);
  }

  async begin(transaction: CatalogTransaction): Promise<void> {
    for (const hook of this.#begin) await hook(transaction);
  }

  async commit(transaction: CatalogTransaction, runIds: readonly string[]): Promise<void> {
    for (const hook of this.#commit) await hook(transaction, runIds);
  }
}

const storage = new AsyncLocalStorage<CurrentRequest>();

/** Undefined outside of requests. */
export const currentRequest = (): CurrentRequest | undefined => storage.getStore();

/** All that `use` starts, also later, belongs to the request. */
export const withRequest = (request: CurrentRequest, use: () => void): void => storage.run(request, use);
