// Goal: docker-compose.yml fits the services it starts. Method: read it as Compose would, and give each
// service's settings to that service's own parser.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
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
  secrets?: string[];
  ports?: string[];
}

const text = readFileSync(join(rootFolder, 'docker-compose.yml'), 'utf8');
const { services, volumes, secrets } = parse(text, { merge: true }) as {
  services: Record<string, ComposeService>;
  volumes: Record<string, unknown>;
  secrets: Record<string, { file: string }>;
};
const MAKE_SECRETS = join(rootFolder, 'scripts/docker/make-secrets.sh');
const ONE_SHOT = ['migrate', 'invite-alpha', 'invite-beta'];
const JOIN_FOLDER = '/var/lib/tidemark-join';
const READERS: Record<string, (environment: Record<string, string>) => unknown> = {
  api: readApiConfig,
  worker: readWorkerConfig,
  'storage-alpha': readStorageNodeConfig,
  'storage-beta': readStorageNodeConfig,
};

function makeSecrets(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-secrets-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  execFileSync('sh', [MAKE_SECRETS, folder]);
  return folder;
}

test('every part of the system is there', () => {
  expect(Object.keys(services).sort()).toEqual(
    [...Object.keys(READERS), ...ONE_SHOT, 'postgres', 'redis'].sort(),
  );
});

test.each(Object.entries(READERS))(
  '%s accepts its settings, with the secrets that the script makes',
  (name, read) => {
    const folder = makeSecrets();
    // As the service that invites it leaves it.
    writeFileSync(join(folder, 'token'), 'tmj_one-time');
    const environment = Object.entries(services[name]!.environment).map(([key, value]) => [
      key,
      value
        .replace(/\$\{\w+:-(\w+)\}/, '$1')
        .replace('/run/secrets', folder)
        .replace(JOIN_FOLDER, folder),
    ]);
    expect(() => read(Object.fromEntries(environment))).not.toThrow();
  },
);

test('every secret is made by the script, stays what it is, and is given to those who name it, not as text', () => {
  const folder = makeSecrets();
  const made = readdirSync(folder);
  const before = made.map(name => readFileSync(join(folder, name), 'utf8'));
  expect(new Set(before).size).toBe(made.length);
  for (const secret of before) expect(secret).toMatch(/^[0-9a-f]{64}$/);
  execFileSync('sh', [MAKE_SECRETS, folder]);
  expect(made.map(name => readFileSync(join(folder, name), 'utf8'))).toEqual(before);

  expect(Object.keys(secrets).sort()).toEqual(made.sort());
  for (const [name, service] of Object.entries(services)) {
    const named = Object.values(service.environment ?? {})
      .filter(value => value.startsWith('/run/secrets/'))
      .map(value => value.slice('/run/secrets/'.length));
    expect.soft([...(service.secrets ?? [])].sort(), name).toEqual(named.sort());
    const bare = Object.entries(service.environment ?? {}).filter(([key]) =>
      /PASSWORD$|SECRET$|TOKEN$/.test(key),
    );
    expect.soft(bare, name).toEqual([]);
  }
});

test('each storage node joins with a token that it alone is given, at the address where others reach it', () => {
  for (const [name, { environment, volumes: mounts = [], depends_on: needs = {} }] of Object.entries(
    services,
  )) {
    if (!name.startsWith('storage-')) continue;
    const node = environment.TIDEMARK_NODE_NAME!;
    const invite = services[`invite-${node}`]!;
    const file = environment.TIDEMARK_JOIN_TOKEN_FILE!;
    expect(needs[`invite-${node}`]?.condition).toBe('service_completed_successfully');
    expect(invite.command.slice(1)).toEqual([node, file]);
    expect(invite.volumes).toEqual([`join-${node}:${JOIN_FOLDER}`]);
    expect(mounts).toContain(`join-${node}:${JOIN_FOLDER}:ro`);
    expect(file.startsWith(`${JOIN_FOLDER}/`)).toBe(true);
    expect(environment.TIDEMARK_CONTROL_ADVERTISE).toBe(`${name}:7411`);
    expect(environment.TIDEMARK_JOIN_URL).toBe(invite.environment.TIDEMARK_URL);
    const holders = Object.keys(services).filter(other =>
      (services[other]!.volumes ?? []).some(mount => mount.startsWith(`join-${node}:`)),
    );
    expect(holders.sort()).toEqual([`invite-${node}`, name]);
  }
});

test('nothing listens outside of this machine', () => {
  const ports = Object.values(services).flatMap(service => service.ports ?? []);
  expect(ports.length).toBeGreaterThan(0);
  expect(ports.filter(port => !port.startsWith('127.0.0.1:'))).toEqual([]);
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
