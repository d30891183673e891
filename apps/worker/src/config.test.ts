// Goal: faulty settings are told all at once, and what is left out has the documented value.
import { expect, test } from 'vitest';
import { readConfig } from './config.ts';

const url = 'postgres://tidemark@127.0.0.1/tidemark';

test('the queue is in the catalog database unless told', () => {
  const config = readConfig({ TIDEMARK_DATABASE_URL: url });
  expect(config).toEqual({
    databaseUrl: url,
    queueUrl: url,
    webhookKeys: [],
    concurrency: 8,
    healthListen: undefined,
    leaseMs: 15_000,
    reconcileMs: 600_000,
    reportOnly: [],
    auditMs: 86_400_000,
    auditSampleBytes: 67_108_864,
    retryDelayMaxMs: 30_000,
    replicationRetryMs: 30_000,
    targetAwayMs: 300_000,
    eventRetentionMs: 2_592_000_000,
    runRetentionMs: 7_776_000_000,
    auditLogRetentionMs: 63_072_000_000,
    killPoints: undefined,
    logLevel: 'info',
  });
  expect(Object.isFrozen(config)).toBe(true);
});

test('every fault is named in one error', () => {
  const read = () =>
    readConfig({
      TIDEMARK_QUEUE_URL: 'amqp://x',
      TIDEMARK_WORKER_CONCURRENCY: '0',
      TIDEMARK_HEALTH_LISTEN: 'h:70000',
    });
  for (const name of ['DATABASE_URL', 'QUEUE_URL', 'WORKER_CONCURRENCY', 'HEALTH_LISTEN']) {
    expect(read).toThrow(`TIDEMARK_${name}`);
  }
});

test('what is only reported is given by name', () => {
  const reportOnly = (text: string) =>
    readConfig({ TIDEMARK_DATABASE_URL: url, TIDEMARK_RECONCILE_REPORT_ONLY: text }).reportOnly;
  expect(reportOnly('volume-unknown, backup-unknown')).toEqual(['volume-unknown', 'backup-unknown']);
  expect(reportOnly('all')).toContain('job-left');
  expect(() => reportOnly('volume-unknow')).toThrow(/volume-unknow, which names no difference/);
});
