// Goal: docker-compose.tls.yml, on top of docker-compose.yml, gives every service certificates that it takes. Method:
// both read as Compose would; the certificates of docs/SECURITY.md in the places that they are mounted from.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { readConfig as readApiConfig } from '../../apps/api/src/config.ts';
import { parseConfig as readStorageNodeConfig } from '../../apps/storage-node/src/config.ts';
import { readConfig as readWorkerConfig } from '../../apps/worker/src/config.ts';
import { rootFolder } from '../setup/find-node.mjs';
import { makeDocumentedCertificates } from '../stack/testing/documented-certificates.ts';

interface ComposeService {
  environment?: Record<string, string>;
  volumes?: string[];
  healthcheck?: { test: string[] };
}

const servicesOf = (name: string): Record<string, ComposeService> =>
  parse(readFileSync(join(rootFolder, name), 'utf8'), { merge: true }).services;
const plain = servicesOf('docker-compose.yml');
const secure = servicesOf('docker-compose.tls.yml');

const folder = mkdtempSync(join(tmpdir(), 'tidemark-compose-tls-'));
makeDocumentedCertificates(folder);
for (const name of ['database-password', 'fleet-secret', 'admin-token', 'token']) {
  writeFileSync(join(folder, name), 'a'.repeat(64));
}
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Its settings, with the files of this machine in place of those in the container. */
function environmentOf(name: string): Record<string, string> {
  const mounts = (secure[name]!.volumes ?? []).map(text => {
    const [, source, target] = /^\$\{TIDEMARK_TLS:-\.\/tls\}\/(\S+?):(\S+?):ro$/.exec(text) ?? [];
    return { source: join(folder, source!), target: target! };
  });
  const here = (value: string) =>
    mounts
      .reduce((text, { source, target }) => (text === target ? source : text), value)
      .replace(/^(\/run\/secrets|\/var\/lib\/tidemark-join)(?=\/)/, folder)
      .replace(/\$\{\w+:-(\w+)\}/, '$1');
  const both = { ...plain[name]!.environment, ...secure[name]!.environment };
  return Object.fromEntries(Object.entries(both).map(([key, value]) => [key, here(value)]));
}

test('api, worker and storage nodes take what is mounted for them', () => {
  expect(readApiConfig(environmentOf('api'))).toMatchObject({ tls: {}, https: {} });
  expect(readWorkerConfig(environmentOf('worker'))).toMatchObject({ tls: {} });
  for (const name of ['storage-alpha', 'storage-beta']) {
    const { tls, join } = readStorageNodeConfig(environmentOf(name));
    expect(tls).toBeDefined();
    expect(join).toMatchObject({ url: 'https://api:7400', ca: readFileSync(`${folder}/ca.pem`) });
  }
});

test('whoever calls the API does so over HTTPS, and trusts its CA', () => {
  expect(secure.api!.healthcheck!.test.at(-1)).toBe('https://127.0.0.1:7400/readyz');
  for (const name of ['api', 'invite-alpha', 'invite-beta']) {
    expect(environmentOf(name).NODE_EXTRA_CA_CERTS).toBe(join(folder, 'ca.pem'));
  }
  for (const name of ['invite-alpha', 'invite-beta']) {
    expect(environmentOf(name).TIDEMARK_URL).toBe('https://api:7400');
  }
  const callers = Object.entries(plain).filter(([, { environment = {} }]) =>
    Object.values(environment).some(value => value.includes('http://api')),
  );
  expect(callers.map(([name]) => name).filter(name => secure[name] === undefined)).toEqual([]);
});
