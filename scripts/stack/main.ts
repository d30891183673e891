// `npm start`: the whole system on this machine until Ctrl-C.

import { join } from 'node:path';
import { rootFolder } from '../setup/find-node.mjs';
import { Stack } from './stack.ts';

const { TIDEMARK_HOME, TIDEMARK_QUEUE_URL, TIDEMARK_LOG_LEVEL, TIDEMARK_WORKER_CONCURRENCY } = process.env;
const DEFAULT_URL = 'http://127.0.0.1:7400';

function describe(stack: Stack): string {
  const database = new URL(stack.databaseUrl);
  database.password = '';
  const cli = stack.url === DEFAULT_URL ? 'npx tidemark' : `TIDEMARK_URL=${stack.url} npx tidemark`;
  const [first = '', second = first] = stack.nodes.map(node => node.name);
  const nodes = stack.nodes.map(
    node => `  ${node.name.padEnd(9)} control ${node.controlAddress}, NBD ${node.nbdAddress}`,
  );
  return `
Tidemark is running.
  api       ${stack.url} (readable description: ${stack.url}/docs)
${nodes.join('\n')}
  postgres  ${database} (password in ${stack.home}/stack.json)
  state     ${stack.home} (logs in ${stack.home}/logs)

Next, in another terminal:
  ${cli} volume create disk1 --storage-node ${first} --size 1GiB
  ${cli} repository create vault --storage-node ${second}
  ${cli} backup create --volume disk1 --repository vault --checkpoint monday --kind full

Ctrl-C stops it all; the data stays.`;
}

const stack = new Stack({
  home: TIDEMARK_HOME ?? join(rootFolder, '.tidemark'),
  ...(TIDEMARK_QUEUE_URL === undefined ? {} : { queueUrl: TIDEMARK_QUEUE_URL }),
  environment: { TIDEMARK_LOG_LEVEL, TIDEMARK_WORKER_CONCURRENCY },
  onNotice: line => console.log(line),
});

let stopping = false;
async function stop(signal: NodeJS.Signals): Promise<void> {
  if (stopping) return; // a terminal, npm and an impatient user may all send it
  stopping = true;
  console.log(signal === 'SIGINT' ? '\nStopping …' : 'Stopping …');
  await stack.stop();
  console.log('Stopped.');
  process.exit(0);
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void stop(signal));

try {
  await stack.start();
  console.log(describe(stack));
} catch (error) {
  // Stopped while it started: `stop` says so and exits.
  if (!stopping) {
    console.error(`Tidemark did not start: ${(error as Error).message}`);
    process.exit(1);
  }
}
