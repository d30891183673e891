// What is known of the request that is being answered, wherever in the service it is asked for: who asks, and what has
// to stand in the same transaction as what they change.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { AcceptedAnswer, Acting, CatalogTransaction } from '@tidemark/catalog';
import { parseSelector, type Selector } from '@tidemark/proto';
import type { Actor } from './actor.ts';

type Begin = (transaction: CatalogTransaction) => Promise<void>;
type Commit = (transaction: CatalogTransaction, runIds: readonly string[]) => Promise<void>;

export class CurrentRequest implements Acting {
  readonly name: string;
  readonly visible: Selector;
  /** What is answered at once: set by who starts a run, within the transaction that does. */
  accepted: AcceptedAnswer | null = null;
  /** One of its transactions was committed. */
  hasWritten = false;
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

  committed(): void {
    this.hasWritten = true;
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
