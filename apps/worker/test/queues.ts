// The backends that the suites run on: Postgres always, Redis where the machine has it. In continuous
// integration a missing one is a failure.
import { redisIsMissing, startRedis } from './redis-server.ts';

export interface TestQueue {
  /** Undefined: in the catalog's own database. */
  readonly url: string | undefined;
  stop(): Promise<void>;
}

export interface Backend {
  readonly name: string;
  /** Why its suites are skipped, if they are. */
  readonly missing: string | undefined;
  open(): Promise<TestQueue>;
}

export const BACKENDS: readonly Backend[] = [
  { name: 'Postgres', missing: undefined, open: async () => ({ url: undefined, stop: async () => {} }) },
  { name: 'Redis', missing: redisIsMissing(), open: startRedis },
];
