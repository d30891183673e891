// What is said of failed NBD requests: a disk that fails does so thousands of times a second, and one line
// a second tells as much.
import type { NbdErrno } from '@tidemark/nbd';

export interface RequestFailure {
  readonly errno: NbdErrno;
  readonly message: string;
  /** Failures since the one that was reported before this, itself included. */
  readonly count: number;
}

export class FailureLog {
  readonly #report: (failure: RequestFailure) => void;
  readonly #monotonicMs: () => number;
  readonly #intervalMs: number;
  #reportedAtMs = Number.NEGATIVE_INFINITY;
  #count = 0;

  constructor(options: {
    report: (failure: RequestFailure) => void;
    monotonicMs: () => number;
    intervalMs: number;
  }) {
    this.#report = options.report;
    this.#monotonicMs = options.monotonicMs;
    this.#intervalMs = options.intervalMs;
  }

  note(errno: NbdErrno, error: unknown): void {
    this.#count++;
    const nowMs = this.#monotonicMs();
    if (nowMs - this.#reportedAtMs < this.#intervalMs) return;
    const message = error instanceof Error ? error.message : String(error);
    this.#report({ errno, message, count: this.#count });
    this.#reportedAtMs = nowMs;
    this.#count = 0;
  }
}
