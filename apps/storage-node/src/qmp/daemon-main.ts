// `tidemark-storage-daemon`: a block graph driven by QMP alone, with the command line of
// qemu-storage-daemon(1).
import { readFile } from 'node:fs/promises';
import { CommandLineError, type Option, parseCommandLine } from './command-line.ts';
import { qmpCommands } from './commands/index.ts';
import { startDetached, tellReady } from './daemonize.ts';
import { HELP } from './help.ts';
import { Startup } from './startup.ts';
import { StorageDaemon } from './storage-daemon.ts';

const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'));
const KEEP_ALIVE_INTERVAL_MS = 24 * 60 * 60 * 1000;
process.exit(await main(process.argv.slice(2)));

async function main(args: readonly string[]): Promise<number> {
  let options: Option[];
  try {
    options = parseCommandLine(args);
  } catch (error) {
    return complain(error);
  }
  // The first of the two ends everything; QEMU does not look any further either.
  for (const { name } of options) {
    if (name === 'help' || name === 'version') {
      process.stdout.write(name === 'help' ? HELP : `tidemark-storage-daemon version ${version}\n`);
      return 0;
    }
  }
  const detached = options.find(({ name }) => name === 'daemonize');
  if (detached !== undefined) return startDetached(args.filter(word => word !== detached.text));
  return run(options);
}

async function run(options: readonly Option[]): Promise<number> {
  const daemon = new StorageDaemon({ version });
  const startup = new Startup({ daemon, commands: qmpCommands });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => daemon.quit());
  // Without a monitor or a server nothing else would keep the process.
  const alive = setInterval(() => undefined, KEEP_ALIVE_INTERVAL_MS);
  let code = 0;
  try {
    await startup.run(options);
    tellReady();
    await daemon.quitting;
  } catch (error) {
    code = complain(error);
  }
  await daemon.close();
  await startup.close();
  clearInterval(alive);
  return code;
}

/** Returns the exit code. What nobody expected ends the process with its stack. */
function complain(error: unknown): number {
  if (!(error instanceof CommandLineError)) throw error;
  process.stderr.write(`tidemark-storage-daemon: ${error.message}\n`);
  return 1;
}
