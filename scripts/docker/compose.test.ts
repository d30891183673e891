// Goal: docker-compose.yml fits the services it starts. Method: read it as Compose would, and give each
// service's settings to that service's own parser.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { readConfig as readApiConfig } from '../../apps/api/src/config.ts';
import { parseConfig as readStorageNodeConfig } from '../../apps/storage-node/src/config.ts';
import { readConfig as readWorkerConfig } from '../../apps/worker/src/config.ts';
import { rootFolder } from '../setup/find-node.mjs';

interface ComposeService {
  build?: string;
  command: string[];
  environment: Record<string, string>;
  healthcheck?: { test: string[] };
  depends_on?: Record<string, { condition: string }>;
  volumes?: string[];
}

const text = readFileSync(join(rootFolder, 'docker-compose.yml'), 'utf8');
const { services, volumes } = parse(text, { merge: true }) as {
  services: Record<string, ComposeService>;
  volumes: Record<string, unknown>;
};
const ONE_SHOT = ['migrate', 'register'];
const READERS: Record<string, (environment: Record<string, string>) => unknown> = {
  api: readApiConfig,
  worker: readWorkerConfig,
  'storage-alpha': readStorageNodeConfig,
  'storage-beta': readStorageNodeConfig,
};

test('every part of the system is there', () => {
  expect(Object.keys(services).sort()).toEqual(
    [...Object.keys(READERS), ...ONE_SHOT, 'postgres', 'redis'].sort(),
  );
});

test.each(Object.entries(READERS))('%s accepts its settings', (name, read) => {
  const environment = Object.entries(services[name]!.environment).map(([key, value]) => [
    key,
    value.replace(/\$\{\w+:-(\w+)\}/, '$1'),
  ]);
  expect(() => read(Object.fromEntries(environment))).not.toThrow();
});

test('every program exists, every lasting service has a health check, every volume is declared', () => {
  for (const [name, { build, command, healthcheck, volumes: mounts = [] }] of Object.entries(services)) {
    expect.soft(healthcheck !== undefined, `${name} has a health check`).toBe(!ONE_SHOT.includes(name));
    const programs = [build ? command[0]! : null, healthcheck?.test.find(part => part.endsWith('.mjs'))];
    for (const program of programs) {
      if (program) expect.soft(existsSync(join(rootFolder, program)), `${name}: ${program}`).toBe(true);
    }
    for (const mount of mounts) expect.soft(volumes, name).toHaveProperty(mount.split(':')[0]!);
  }
});

test('a service waits for services that exist, until they are healthy or done', () => {
  for (const { depends_on: needs = {} } of Object.values(services)) {
    for (const [need, { condition }] of Object.entries(needs)) {
      expect(services).toHaveProperty(need);
      const wanted = ONE_SHOT.includes(need) ? 'service_completed_successfully' : 'service_healthy';
      expect(condition).toBe(wanted);
    }
  }
});

test('the image holds the manifest of every workspace', () => {
  const dockerfile = readFileSync(join(rootFolder, 'Dockerfile'), 'utf8');
  const lock = JSON.parse(readFileSync(join(rootFolder, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, unknown>;
  };
  const folders = Object.keys(lock.packages).filter(path => /^(packages|apps)\/[^/]+$/.test(path));
  expect(folders.length).toBeGreaterThan(0);
  for (const folder of folders) expect(dockerfile).toContain(`COPY ${folder}/package.json ${folder}/\n`);
});
