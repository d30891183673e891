// On whose behalf the catalog is used just now, and what has to happen in the same transaction as a change of theirs.
import type { Selector } from '@tidemark/proto';
import type { CatalogTransaction } from './catalog.ts';

export interface Acting {
  /** Runs carry it as `requestedBy`. */
  readonly name: string;
  /** Only volumes with such labels are there, and what belongs to them. Empty: all. */
  readonly visible: Selector;
  /** First in each transaction: rejects, and nothing is written, where the change may not begin. */
  begin?(transaction: CatalogTransaction): Promise<void>;
  /** After each of its transactions that was committed. */
  committed?(): void;
  /** Last in each transaction, with the runs that it has made. */
  commit?(transaction: CatalogTransaction, runIds: readonly string[]): Promise<void>;
}
