// A command of the monitor: name, shape of its arguments, and what it does. One table of all of them is in
// commands/index.ts.
import type { z } from 'zod';
import type { StorageDaemon } from './storage-daemon.ts';

export interface QmpCommand {
  readonly name: string;
  readonly arguments: z.ZodType;
  /** Returns what the reply's `return` shows; nothing means an empty object. */
  run(args: unknown, daemon: StorageDaemon): unknown;
}

/** Keeps the type of the arguments together with the code that uses them. */
export function defineCommand<Schema extends z.ZodType>(command: {
  name: string;
  arguments: Schema;
  run(args: z.output<Schema>, daemon: StorageDaemon): unknown;
}): QmpCommand {
  return command as QmpCommand;
}
