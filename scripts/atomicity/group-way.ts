// How groups are taken: by the suite itself over gRPC, step by step, or by the product over REST.
import type { Plan, Trouble } from './plan.ts';

export interface Taken {
  readonly kept: boolean;
  /** Why it was not kept. */
  readonly reason: string;
  /** As far as hosts have answered. */
  readonly released: readonly { readonly heldMs: number; readonly waitMaxMs: number }[];
}

export interface Verdict {
  readonly faults: string[];
  /** All of its volumes were restored and looked at. */
  readonly restored: boolean;
}

export interface GroupWay {
  /** Resolves when the group is decided, and the plan's trouble is over. */
  take(plan: Plan, cause: (trouble: Trouble) => Promise<void>): Promise<Taken>;
  /** With all hosts serving, what has to hold of the last one. */
  check(): Promise<Verdict>;
  close(): Promise<void>;
}
