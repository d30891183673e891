// `--daemonize`: the process starts itself again without a terminal, and ends when that one is ready or has
// failed. The runtime cannot fork.
import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** What the child says once clients may connect. */
const READY = 'ready';

/** Resolves with the exit code: zero where the daemon now runs; it told on standard error what went wrong. */
export async function startDetached(args: readonly string[]): Promise<number> {
  const [, program] = process.argv;
  const child = spawn(process.execPath, [...process.execArgv, program!, ...args], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  child.stderr!.pipe(process.stderr);
  const ready = once(child, 'message').then(() => 0);
  const code = await Promise.race([ready, once(child, 'exit').then(([exitCode]) => exitCode ?? 1)]);
  if (code === 0 && child.exitCode === null) {
    child.stderr!.destroy();
    child.disconnect();
    child.unref();
  }
  return code;
}

/** Lets the parent go, where there is one that waits. */
export function tellReady(): void {
  if (process.send === undefined) return;
  // Nobody reads what is written there from now on.
  process.stderr.on('error', () => undefined);
  process.send(READY, undefined, undefined, () => process.disconnect());
}
