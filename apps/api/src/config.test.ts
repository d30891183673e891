// Goal: settings are read once, completely, and every fault is told in one go.
import { expect, test } from 'vitest';
import { readConfig } from './config.ts';

const database = 'postgres://tidemark@127.0.0.1/tidemark';

test('the queue is the database unless told', () => {
  expect(readConfig({ TIDEMARK_DATABASE_URL: database })).toEqual({
    databaseUrl: database,
    queueUrl: database,
    needsToken: false,
    bootstrapToken: undefined,
    fleetSecret: undefined,
    webhookKeys: [],
    listen: { host: '127.0.0.1', port: 7400 },
    killPoints: undefined,
    logLevel: 'info',
  });
  const redis = readConfig({ TIDEMARK_DATABASE_URL: database, TIDEMARK_QUEUE_URL: 'redis://queue:6379' });
  expect(redis.queueUrl).toBe('redis://queue:6379');
});

test('it listens where it is told', () => {
  const env = { TIDEMARK_DATABASE_URL: database, TIDEMARK_API_LISTEN: '[::1]:80' };
  expect(readConfig(env).listen).toEqual({ host: '::1', port: 80 });
});

test('all faults are told together', () => {
  const env = { TIDEMARK_QUEUE_URL: 'amqp://x', TIDEMARK_API_LISTEN: '7400', TIDEMARK_LOG_LEVEL: 'loud' };
  for (const fault of ['DATABASE_URL is not set', 'QUEUE_URL must', 'API_LISTEN must', 'LOG_LEVEL must']) {
    expect(() => readConfig(env)).toThrow(`TIDEMARK_${fault}`);
  }
  expect(() => readConfig({ TIDEMARK_DATABASE_URL: database, TIDEMARK_API_LISTEN: 'h:70000' })).toThrow(
    '65535',
  );
});

test('what was read cannot be changed', () => {
  expect(Object.isFrozen(readConfig({ TIDEMARK_DATABASE_URL: database }))).toBe(true);
});

test('open access is for loopback alone', () => {
  const base = { TIDEMARK_DATABASE_URL: database };
  for (const listen of ['0.0.0.0:7400', '[::]:7400', '192.168.0.7:7400', 'api.example:7400']) {
    const env = { ...base, TIDEMARK_API_LISTEN: listen };
    expect(() => readConfig(env), listen).toThrow(
      /TIDEMARK_API_ACCESS is open, and TIDEMARK_API_LISTEN .*7400/,
    );
    expect(readConfig({ ...env, TIDEMARK_API_ACCESS: 'tokens' }).needsToken).toBe(true);
  }
  expect(readConfig({ ...base, TIDEMARK_API_LISTEN: '127.0.0.1:7400' }).needsToken).toBe(false);
  expect(() => readConfig({ ...base, TIDEMARK_API_ACCESS: 'all' })).toThrow('must be open or tokens');
});
