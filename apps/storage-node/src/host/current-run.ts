// The run for which something is done, wherever it is asked for: logs of what follows from a call carry its id.
import { AsyncLocalStorage } from 'node:async_hooks';

const storage = new AsyncLocalStorage<string>();

/** Undefined outside of a run's calls. */
export const currentRunId = (): string | undefined => storage.getStore();

/** All that `action` starts, also later, is done for the run. */
export const forRun = <T>(runId: string, action: () => T): T => storage.run(runId, action);
