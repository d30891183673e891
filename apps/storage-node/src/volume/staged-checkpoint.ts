// What callers see of a checkpoint that is being added: in one go, or step by step, as a group of volumes does it.
import type { TransactionAction } from '@tidemark/engine';
import type { CheckpointRecord } from './volume-record.ts';

/** What happens at the instant of a checkpoint besides. */
export interface CheckpointCompanions {
  readonly actions: readonly TransactionAction[];
  readonly undo: () => Promise<void>;
}

/**
 * A checkpoint whose durable work before its instant is done. Nobody else changes the volume's checkpoints until
 * `publish`, `retract` or `withdraw` has ended: exactly one of them is to be called.
 */
export interface StagedCheckpoint {
  /** Of the transaction of its instant. */
  actions(record: CheckpointRecord): TransactionAction[];
  /** To be called in the same turn as the transaction ends. */
  enter(record: CheckpointRecord): void;
  /** After `enter`: makes it durable. Rejects with it retracted. */
  publish(undo: () => Promise<void>): Promise<void>;
  /** After `enter`: what happened at its instant besides is undone, and it is merged away again. */
  retract(undo: () => Promise<void>): Promise<void>;
  /** Instead of the transaction, or where that failed. */
  withdraw(): Promise<void>;
}
