// Goal: renewed files are used, unusable ones never, and whoever reads the log learns of each once. Method: real files,
// made by openssl and written over, and a clock that the test winds on.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { afterAll, expect, onTestFinished, test, vi } from 'vitest';
import { type CertificateFiles, CertificateMaker } from '../testing/certificates.ts';
import { TlsFiles, TlsFilesError } from './tls-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'tidemark-tls-files-'));
const maker = new CertificateMaker(folder);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Two looks, whenever the first of them began. */
const TWO_LOOKS_MS = 60_000;

function open({ cert, key }: CertificateFiles, ca = maker.ca): TlsFiles {
  const named = (setting: string, path: string) => ({ setting, path });
  const paths = { cert: named('CERT', cert), key: named('KEY', key), ca: named('CA', ca) };
  return new TlsFiles({ paths, purpose: 'server', now: () => Date.now() });
}

/** Over NAME.pem and NAME-key.pem: an RSA key that is read without complaint and of which no TLS connection comes. */
function makeShort(name: string): CertificateFiles {
  const { cert, key } = { cert: join(folder, `${name}.pem`), key: join(folder, `${name}-key.pem`) };
  const made = ['-newkey', 'rsa:1024', '-noenc', '-subj', `/CN=${name}`, '-days', '30'];
  const args = ['req', '-x509', ...made, '-keyout', key, '-out', cert];
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  return { cert, key };
}

test('what the TLS library would not take is refused when it is read, not when somebody connects', () => {
  expect(() => open(makeShort('short'))).toThrow(
    /^CERT names .*short\.pem, which the TLS library refuses \(ee key too small\): make it anew/,
  );
});

test('what it would not take leaves the former in use', () => {
  const files = open(maker.make('shortened'));
  const { material } = files;
  const told: unknown[] = [];
  files.onChange(one => told.push(one));
  makeShort('shortened');
  expect(() => files.reload()).toThrow(TlsFilesError);
  expect(files.material).toBe(material);
  expect(told).toEqual([]);
  expect(() => createSecureContext({ ...files.material })).not.toThrow();
});

test('renewals are told, and each reason why there is none once', () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  onTestFinished(() => void vi.useRealTimers());
  const own = maker.make('followed');
  const files = open(own);
  const told: { renewed: boolean; message: string }[] = [];
  const stop = files.keepFresh(outcome => told.push(outcome));
  const toldNow = () => {
    vi.advanceTimersByTime(TWO_LOOKS_MS);
    return told.splice(0);
  };
  expect(toldNow()).toEqual([]);
  maker.make('followed');
  expect(toldNow()).toEqual([{ renewed: true, message: `${own.cert} was renewed` }]);

  const absent = { renewed: false, message: expect.stringMatching(/^KEY names .*ENOENT.*check the path$/) };
  rmSync(own.key);
  expect(toldNow()).toEqual([absent]);
  writeFileSync(own.key, 'half a k');
  expect(toldNow()).toMatchObject([
    { renewed: false, message: expect.stringMatching(/holds no private key/) },
  ]);
  expect(toldNow()).toEqual([]);
  maker.make('followed');
  expect(toldNow()).toMatchObject([{ renewed: true }]);
  // The same reason again is news again.
  rmSync(own.key);
  expect(toldNow()).toEqual([absent]);

  stop();
  maker.make('followed');
  expect(toldNow()).toEqual([]);
});
