// The worker's process: settings, log, signals.
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { type HealthServer, killPoints, settingsOrExit, startHealthServer } from '@tidemark/proto';
import { pino } from 'pino';
import { readConfig } from './config.ts';
import { RunWorker } from './worker.ts';

const config = settingsOrExit(() => readConfig(process.env));
const owner = `${hostname()}-${process.pid}-${randomUUID().slice(0, 8)}`;
/** Written at once: a line that tells why a process ended must not be lost with it. */
const log = pino(
  { level: config.logLevel, base: { service: 'worker', owner } },
  pino.destination({ dest: process.stdout.fd, sync: true }),
);
const worker = new RunWorker({
  ...config,
  owner,
  log,
  limits: {
    leaseMs: config.leaseMs,
    retryDelayMaxMs: config.retryDelayMaxMs,
    replicationRetryMs: config.replicationRetryMs,
    targetAwayMs: config.targetAwayMs,
    reconcileMs: config.reconcileMs,
    auditMs: config.auditMs,
    auditSampleBytes: config.auditSampleBytes,
    eventRetentionMs: config.eventRetentionMs,
    runRetentionMs: config.runRetentionMs,
    auditLogRetentionMs: config.auditLogRetentionMs,
  },
  metrics: { listen: config.metricsListen, runtime: true },
  pass: killPoints(config.killPoints, 'worker'),
});

config.tls?.keepFresh(({ renewed, message }) => log[renewed ? 'info' : 'error']({ message }, 'tls'));

let health: HealthServer | undefined;

const end = async (signal: string) => {
  log.info({ signal }, 'stopping');
  await health?.close();
  await worker.close();
  log.info('stopped');
};

// A second signal does not wait for a graceful end.
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    end(signal).then(
      () => process.exit(0),
      error => {
        log.fatal({ err: error }, 'not stopped cleanly');
        process.exit(1);
      },
    );
  });
}

try {
  await worker.start();
  if (config.healthListen !== undefined) {
    health = await startHealthServer({ listen: config.healthListen, check: () => worker.check() });
  }
} catch (error) {
  log.fatal({ err: error }, 'not started');
  process.exit(1);
}
log.info(
  { concurrency: config.concurrency, health: health?.address, metrics: worker.metricsAddress },
  'listening',
);
