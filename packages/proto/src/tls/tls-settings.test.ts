// Goal: what is wrong with certificate, key or CA is told at the start, with its file and the next step, and never
// what a key holds. Method: real files, made by openssl, with one thing wrong at a time.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { z } from 'zod';
import { readSettings } from '../settings.ts';
import { CertificateMaker } from '../testing/certificates.ts';
import type { Purpose } from './certificate-faults.ts';
import { fleetTlsSettings, openFleetTls } from './tls-settings.ts';

const folder = mkdtempSync(join(tmpdir(), 'tidemark-tls-settings-'));
const maker = new CertificateMaker(folder);
const good = maker.make('good');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Files {
  cert?: string;
  key?: string;
  ca?: string;
}

function settingsOf({ cert, key, ca }: Files): Record<string, string> {
  const all = { TIDEMARK_TLS_CERT_FILE: cert, TIDEMARK_TLS_KEY_FILE: key, TIDEMARK_TLS_CA_FILE: ca };
  return Object.fromEntries(Object.entries(all).filter(entry => entry[1] !== undefined)) as Record<
    string,
    string
  >;
}

function read(files: Files, use: { purpose?: Purpose; host?: string; nowMs?: number } = {}) {
  const { purpose = 'server', host, nowMs = Date.now() } = use;
  const schema = z.object(fleetTlsSettings).transform((settings, context) => {
    const tls = openFleetTls(settings, { purpose, host, now: () => nowMs }, context);
    return tls === null ? z.NEVER : { tls };
  });
  return readSettings(schema, settingsOf(files)).tls;
}

const all = { ...good, ca: maker.ca };

test('none are needed, and good ones are read', () => {
  expect(read({})).toBeUndefined();
  expect(read(all)!.material.cert.equals(readFileSync(good.cert))).toBe(true);
  for (const host of ['localhost', '127.0.0.1', '::1']) expect(read(all, { host })).toBeDefined();
});

test('some of them are too few', () => {
  expect(() => read({ cert: good.cert })).toThrow(/TIDEMARK_TLS_KEY_FILE is not set: .* go together/);
  expect(() => read({ cert: good.cert })).toThrow(/TIDEMARK_TLS_CA_FILE is not set/);
  expect(() => read({ ...all, ca: '' })).toThrow(/TIDEMARK_TLS_CA_FILE must not be empty/);
});

test('a file that is not there, or cannot be read, is named with the next step', () => {
  const absent = join(folder, 'absent.pem');
  expect(() => read({ ...all, cert: absent, key: absent })).toThrow(
    `TIDEMARK_TLS_CERT_FILE names ${absent}, which cannot be read (ENOENT): check the path`,
  );
  expect(() => read({ ...all, cert: absent, key: absent })).toThrow(/TIDEMARK_TLS_KEY_FILE names .*ENOENT/);
  const directory = join(folder, 'directory');
  mkdirSync(directory);
  expect(() => read({ ...all, ca: directory })).toThrow(
    /TIDEMARK_TLS_CA_FILE names .*cannot be read \(EISDIR/,
  );
});

test('what is no certificate, or no key, or not the key, is told without what is in it', () => {
  const text = join(folder, 'secret-text.pem');
  writeFileSync(text, 'not a key, but secret\n');
  const said = (files: Files) => {
    try {
      read({ ...all, ...files });
    } catch (error) {
      return String(error);
    }
    throw new Error('it was taken');
  };
  expect(said({ cert: text })).toContain('holds no certificate in PEM form');
  expect(said({ ca: text })).toContain('TIDEMARK_TLS_CA_FILE names');
  expect(said({ key: text })).toContain('holds no private key in PEM form');
  expect(said({ key: text })).not.toContain('but secret');
  expect(said({ key: maker.make('another').key })).toMatch(
    /TIDEMARK_TLS_KEY_FILE names .*another-key\.pem, which is not the key of the certificate in .*good\.pem/,
  );
  const encrypted = join(folder, 'encrypted.pem');
  const pass = ['-aes-256-cbc', '-passout', 'pass:word'];
  execFileSync('openssl', ['pkey', '-in', good.key, ...pass, '-out', encrypted]);
  expect(said({ key: encrypted })).toContain('asks for a passphrase');
});

test('a certificate that is not valid now is told with its time', () => {
  const expired = maker.make('expired', { isExpired: true });
  expect(() => read({ ...all, ...expired })).toThrow(/whose certificate expired at 20\d\d-.*: renew it/);
  const early = Date.now() - 86_400_000;
  expect(() => read(all, { nowMs: early })).toThrow(/CERT_FILE .* not valid before .*: set the clock right/);
  const late = Date.now() + 31 * 86_400_000;
  expect(() => read(all, { nowMs: late })).toThrow(/TIDEMARK_TLS_CA_FILE .* expired at/);
});

test('a certificate for another use or another host is refused', () => {
  const client = maker.make('client', { usage: 'clientAuth' });
  expect(read({ ...all, ...client }, { purpose: 'client' })).toBeDefined();
  expect(() => read({ ...all, ...client })).toThrow(/is not for a server: make one with serverAuth/);
  const server = maker.make('server', { usage: 'serverAuth' });
  expect(() => read({ ...all, ...server }, { purpose: 'client' })).toThrow(/is not for a client/);
  for (const host of ['alpha.example', '10.0.0.7']) {
    expect(() => read(all, { host })).toThrow(
      `is not for ${host}, where others connect to, but for DNS:localhost`,
    );
  }
});
