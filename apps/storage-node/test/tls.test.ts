// Goal: a storage node with TLS takes calls from the fleet alone: a certificate of its CA and its secret, both.
// Method: the real storage node, certificates made by openssl.
import { connectStorageNode, type FleetKeys, SettingsError, TlsFiles } from '@tidemark/proto';
import { type CertificateFiles, CertificateMaker } from '@tidemark/proto/testing';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { parseConfig } from '../src/config.ts';
import { StorageNode } from '../src/storage-node.ts';
import { temporaryFolder } from '../src/testing/temporary-folder.ts';

const SECRET = 'a-secret-of-the-fleet-that-is-long-enough';
const BASE = { TIDEMARK_NODE_NAME: 'alpha', TIDEMARK_STATE_DIR: 's' };

function settingsOf({ cert, key }: CertificateFiles, ca: string): Record<string, string> {
  return { TIDEMARK_TLS_CERT_FILE: cert, TIDEMARK_TLS_KEY_FILE: key, TIDEMARK_TLS_CA_FILE: ca };
}

function callerOf({ cert, key }: CertificateFiles, ca: string): TlsFiles {
  const named = (path: string) => ({ setting: 'a file of the caller', path });
  const paths = { cert: named(cert), key: named(key), ca: named(ca) };
  return new TlsFiles({ paths, purpose: 'client', now: () => Date.now() });
}

test('a certificate and the secret are needed, and neither is enough', async () => {
  const maker = new CertificateMaker(await temporaryFolder());
  const config = parseConfig({
    ...BASE,
    TIDEMARK_STATE_DIR: await temporaryFolder(),
    TIDEMARK_CONTROL_LISTEN: '127.0.0.1:0',
    TIDEMARK_NBD_LISTEN: '127.0.0.1:0',
    TIDEMARK_FLEET_SECRET: SECRET,
    ...settingsOf(maker.make('alpha', { usage: 'serverAuth' }), maker.ca),
  });
  const log = pino({ level: 'silent' });
  const storageNode = new StorageNode({ config, log, now: () => Date.now(), version: '0.0.0' });
  onTestFinished(() => storageNode.close());
  await storageNode.start();
  const status = async (keys: FleetKeys) => {
    const clients = connectStorageNode({ name: 'alpha', address: storageNode.controlAddress!, ...keys });
    onTestFinished(() => clients.close());
    return clients.storageNode.getStatus({});
  };
  const tls = callerOf(maker.make('worker', { usage: 'clientAuth' }), maker.ca);
  expect(await status({ tls, fleetSecret: SECRET })).toMatchObject({ name: 'alpha' });
  await expect(status({ tls })).rejects.toMatchObject({ code: 'fleet-secret-refused' });
  await expect(status({ fleetSecret: SECRET })).rejects.toMatchObject({
    code: 'storage-node-unreachable',
    message: expect.stringMatching(/If it asks for TLS, set TIDEMARK_TLS_CERT_FILE/),
  });
});

test('its certificate has to be for the host that it gives to others', async () => {
  const maker = new CertificateMaker(await temporaryFolder());
  const files = settingsOf(maker.make('alpha', { names: 'DNS:alpha.example' }), maker.ca);
  const at = (host: string) => parseConfig({ ...BASE, ...files, TIDEMARK_CONTROL_ADVERTISE: `${host}:7411` });
  expect(at('alpha.example').tls).toBeDefined();
  expect(() => at('beta.example')).toThrow(SettingsError);
  expect(() => at('beta.example')).toThrow(
    /TIDEMARK_TLS_CERT_FILE names .* not for beta\.example, where others connect to, but for DNS:alpha\.example/,
  );
  expect(() => parseConfig({ ...BASE, ...files, TIDEMARK_TLS_KEY_FILE: '/none' })).toThrow(
    'TIDEMARK_TLS_KEY_FILE names /none, which cannot be read (ENOENT): check the path',
  );
});
