// The servers that suites of catalog, worker, api and cli run on: PostgreSQL and Redis in containers, or the embedded
// PostgreSQL and a local redis-server. Suites do not see which.
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startPostgres } from '../../postgres/embedded-postgres.mjs';
import { type BaseImage, provideImages } from './base-images.ts';
import { daemonAnswers, dockerIsMissing, openDocker } from './docker-daemon.ts';

/** `auto`: containers where a Docker daemon answers. */
export const SERVER_KINDS = ['auto', 'containers', 'embedded'] as const;
export type ServerKind = (typeof SERVER_KINDS)[number];

/** What a suite has to know to start containers of its own. */
export interface ContainerPlace {
  /** What `DOCKER_HOST` is set to. */
  readonly dockerHost: string;
  readonly network: string;
  /** Given to every container, so that what a killed suite leaves is found. */
  readonly label: string;
}

export interface TestServers {
  /** Its user may create databases. */
  readonly databaseUrl: string;
  /** Undefined: no containers. */
  readonly containers: ContainerPlace | undefined;
  /** What was chosen and why, for whoever reads the tests' output. */
  readonly description: string;
  /** Afterwards nothing of them is left. */
  stop(): Promise<void>;
}

const POSTGRES = 'postgres:18';
export const REDIS = 'redis:7';
const IMAGES: BaseImage[] = [POSTGRES, REDIS];
const LABEL = 'tidemark.tests';
const CONNECTIONS_MAX = 200;

export async function startTestServers(kind: ServerKind): Promise<TestServers> {
  if (kind === 'embedded') return startEmbedded('as TIDEMARK_TEST_SERVERS asks');
  if (kind === 'containers') {
    const missing = dockerIsMissing();
    if (missing !== undefined) throw new Error(`TIDEMARK_TEST_SERVERS=containers: ${missing}`);
    return startContainers();
  }
  if (!daemonAnswers(process.env.DOCKER_HOST)) return startEmbedded('no Docker daemon answers');
  return startContainers().catch((error: Error) => startEmbedded(`no containers: ${error.message}`));
}

async function startEmbedded(why: string): Promise<TestServers> {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-test-postgres-'));
  // PostgreSQL may run as another user than we do.
  chmodSync(folder, 0o755);
  const password = randomBytes(12).toString('hex');
  const server = await startPostgres({ dataDir: join(folder, 'data'), user: 'tidemark', password });
  const stop = async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  const description = `the embedded PostgreSQL and a local redis-server (${why})`;
  return { databaseUrl: server.url, containers: undefined, description, stop };
}

async function startContainers(): Promise<TestServers> {
  const { docker, close } = await openDocker();
  const containers = {
    dockerHost: docker.host,
    network: '',
    label: `${LABEL}=${randomBytes(6).toString('hex')}`,
  };
  const clean = async () => {
    const filter = ['--filter', `label=${containers.label}`];
    const left = (await docker.run(['ps', '--all', '--quiet', ...filter])).split('\n').filter(Boolean);
    if (left.length > 0) await docker.run(['rm', '--force', '--volumes', ...left]);
    await docker.succeeds('network', 'rm', containers.network);
  };
  try {
    const made = await provideImages(docker, IMAGES);
    containers.network = `tidemark-tests-${randomBytes(6).toString('hex')}`;
    await docker.run(['network', 'create', '--label', containers.label, containers.network]);
    const databaseUrl = await startPostgresContainer(containers);
    const description = `PostgreSQL 18 and Redis 7 in containers${docker.isOurs ? ' of a private Docker daemon' : ''}`;
    const stop = async () => {
      await clean();
      if (!docker.isOurs && made.length > 0) await docker.run(['image', 'rm', ...made]);
      await close();
    };
    return { databaseUrl, containers, description, stop };
  } catch (error) {
    await clean().catch(() => {}); // the first failure tells more
    await close();
    throw error;
  }
}

async function startPostgresContainer(place: ContainerPlace): Promise<string> {
  prepareTestcontainers(place);
  const { PostgreSqlContainer } = await import('@testcontainers/postgresql');
  const container = await new PostgreSqlContainer(POSTGRES)
    .withNetworkMode(place.network)
    .withLabels(labels(place))
    .withUsername('tidemark')
    .withPassword(randomBytes(12).toString('hex'))
    .withDatabase('tidemark')
    // Nothing that tests write need outlive them.
    .withTmpFs({ '/var/lib/postgresql': 'rw' })
    .withCommand(['postgres', '-c', 'fsync=off', '-c', `max_connections=${CONNECTIONS_MAX}`])
    .start();
  return container.getConnectionUri();
}

export function labels({ label }: ContainerPlace): Record<string, string> {
  const [name, value] = label.split('=') as [string, string];
  return { [name]: value };
}

/** Before testcontainers is imported: its own cleaner is an image from a registry, and we clean up ourselves. */
export function prepareTestcontainers({ dockerHost }: ContainerPlace): void {
  process.env.DOCKER_HOST = dockerHost;
  process.env.TESTCONTAINERS_RYUK_DISABLED = 'true';
  process.env.TESTCONTAINERS_HOST_OVERRIDE = '127.0.0.1';
}
