// Goal: settings are read completely, and one look at the message tells everything that is wrong with them.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { formatHostPort, isLoopback } from './host-port.ts';
import {
  addressSetting,
  databaseUrlSetting,
  logLevelSetting,
  queueUrlSetting,
  readSettings,
  SettingsError,
  secretSetting,
  withPassword,
} from './settings.ts';

const schema = z.object({
  DATABASE: databaseUrlSetting,
  QUEUE: queueUrlSetting,
  LISTEN: addressSetting('127.0.0.1:7400').prefault('127.0.0.1:1'),
  LEVEL: logLevelSetting,
});
const DATABASE = 'postgresql://tidemark@127.0.0.1/tidemark';

test('what is left out has its default, what is not known is ignored, and the outcome is frozen', () => {
  const settings = readSettings(schema, { DATABASE, OTHER: 'x' });
  expect(settings).toEqual({ DATABASE, LISTEN: { host: '127.0.0.1', port: 1 }, LEVEL: 'info' });
  expect([Object.isFrozen(settings), Object.isFrozen(settings.LISTEN)]).toEqual([true, true]);
});

test('every fault is told in one error, a line each', () => {
  const read = () => readSettings(schema, { QUEUE: 'amqp://x', LISTEN: '7400', LEVEL: 'loud' });
  expect(read).toThrow(SettingsError);
  expect(read).toThrow(
    [
      'The settings are not usable:',
      '  DATABASE is not set; give the address of the catalog, for instance ' +
        'postgres://tidemark@127.0.0.1/tidemark',
      '  QUEUE must begin with redis:// or postgres://',
      "  LISTEN must be host:port with a port of at most 65535, for instance 127.0.0.1:7400; it is '7400'",
      '  LEVEL must be trace, debug, info, warn, error, fatal or silent',
    ].join('\n'),
  );
});

test.each([
  ['0.0.0.0:80', { host: '0.0.0.0', port: 80 }],
  ['[::1]:7400', { host: '::1', port: 7400 }],
  ['localhost:0', { host: 'localhost', port: 0 }],
])('%s is an address, and is written as it was read', (text, address) => {
  const { LISTEN } = readSettings(schema, { DATABASE, LISTEN: text });
  expect(LISTEN).toEqual(address);
  expect(formatHostPort(LISTEN)).toBe(text);
});

test.each(['', 'h', 'h:', ':1', 'h:65536', 'h:1:2', 'h h:1', '[::1]', 'http://h:1'])('%j is none', text => {
  expect(() => readSettings(schema, { DATABASE, LISTEN: text })).toThrow('LISTEN must be host:port');
});

describe('a secret', () => {
  const schema = z.object({ KEY: z.string('is not set').min(3, 'is too short') });
  const file = join(mkdtempSync(join(tmpdir(), 'tidemark-secret-')), 'key');
  writeFileSync(file, 'quiet\n');
  afterAll(() => rmSync(dirname(file), { recursive: true, force: true }));

  test('may stand in a file, without its last line break', () => {
    expect(readSettings(schema, { KEY_FILE: file }, ['KEY'])).toEqual({ KEY: 'quiet' });
    expect(readSettings(schema, { KEY: 'loud' }, ['KEY'])).toEqual({ KEY: 'loud' });
  });

  test('that stands in both, or in no file that can be read, is a fault', () => {
    const both = () => readSettings(schema, { KEY: 'loud', KEY_FILE: file }, ['KEY']);
    expect(both).toThrow('KEY and KEY_FILE are both set');
    const away = () => readSettings(schema, { KEY_FILE: `${file}.away` }, ['KEY']);
    expect(away).toThrow(/KEY_FILE cannot be read: ENOENT.*\n.*KEY is not set/);
  });
});

test('a password is put into the address whatever its letters are', () => {
  expect(withPassword('postgres://me@host:5432/db', undefined)).toBe('postgres://me@host:5432/db');
  const url = new URL(withPassword('postgres://me@host:5432/db', 'a/b@c:d%41'));
  expect([url.host, decodeURIComponent(url.password)]).toEqual(['host:5432', 'a/b@c:d%41']);
});

const LONG = 'x'.repeat(32);

test.each(['short', `${LONG} with spaces`, `${LONG}\u00e9`])('%j is no secret, and is not repeated', text => {
  const read = () => readSettings(z.object({ SECRET: secretSetting }), { SECRET: text });
  expect(read).toThrow('openssl rand -hex 32');
  expect(read).not.toThrow(text);
});

test.each([
  ['127.0.0.1', true],
  ['127.8.0.1', true],
  ['::1', true],
  ['localhost', true],
  ['0.0.0.0', false],
  ['::', false],
  ['10.0.0.1', false],
  ['127.0.0.1.example', false],
  ['example', false],
])('%s is on loopback: %s', (host, loopback) => {
  expect(isLoopback({ host, port: 1 })).toBe(loopback);
});
