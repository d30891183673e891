// Starts a storage node from the environment and stops it on SIGTERM or SIGINT.
import { readFile } from 'node:fs/promises';
import { settingsOrExit } from '@tidemark/proto';
import { pino } from 'pino';
import { parseConfig } from './config.ts';
import { StorageNode } from './storage-node.ts';

const config = settingsOrExit(() => parseConfig(process.env));
/** Written at once: a line that tells why a process ended must not be lost with it. */
const log = pino(
  { level: config.logLevel, base: { service: 'storage-node', node: config.nodeName } },
  pino.destination({ dest: process.stdout.fd, sync: true }),
);
const { version } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'));
const storageNode = new StorageNode({ config, log, now: () => Date.now(), version, runtimeMetrics: true });

config.tls?.keepFresh(({ renewed, message }) => log[renewed ? 'info' : 'error']({ message }, 'tls'));

let stopping: Promise<void> | undefined;
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    stopping ??= stop(signal);
  });
}

try {
  await storageNode.start();
} catch (error) {
  if (stopping === undefined) {
    log.fatal({ err: error }, error instanceof Error ? error.message : 'start failed');
    process.exitCode = 1;
  }
}

async function stop(signal: string): Promise<void> {
  log.info({ signal }, 'stopping');
  await storageNode.close();
  log.info('stopped');
  process.exit(0);
}
