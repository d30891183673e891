// `tidemark-storage-daemon`: a block graph driven by QMP alone, with the command line of
// qemu-storage-daemon(1).
import { readFile } from 'node:fs/promises';
import { type CommandLine, CommandLineError, parseCommandLine } from './command-line.ts';
import { qmpCommands } from './commands/index.ts';
import { MonitorServer } from './monitor-server.ts';
import { StorageDaemon } from './storage-daemon.ts';

const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'));
const daemon = new StorageDaemon({ version });
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => daemon.quit());

const servers: MonitorServer[] = [];

try {
  const { monitors } = readCommandLine();
  for (const options of monitors) {
    const server = new MonitorServer({ ...options, daemon, commands: qmpCommands });
    await server.start();
    servers.push(server);
  }
  await daemon.quitting;
} catch (error) {
  process.stderr.write(
    `tidemark-storage-daemon: ${error instanceof Error ? error.message : String(error)}\n`,
  );
  process.exitCode = 1;
}
await daemon.close();
// Last, so that clients hear what the others said at their end.
for (const server of servers) await server.close();
process.exit();

function readCommandLine(): CommandLine {
  try {
    return parseCommandLine(process.argv.slice(2));
  } catch (error) {
    if (error instanceof TypeError) throw new CommandLineError(error.message);
    throw error;
  }
}
