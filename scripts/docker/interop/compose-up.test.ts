// Goal: the image can be built and docker-compose.yml brings up an installation that does the main job: backups of a
// disk whose guest writes over NBD, an increment that holds no more than what changed, restores that are equal;
// storage nodes join with one-time tokens; several apis and workers work in it; it ends cleanly, finds its data again,
// and is removed without a trace.
// Method: the real Docker and Compose, on a private daemon and with images made here where there is no other way.
import { createHash, randomBytes } from 'node:crypto';
import { NbdClient } from '@tidemark/nbd';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backup, RestClient, type Run } from '../../demo/rest-client.ts';
import { type BaseImage, provideImages } from '../testing/base-images.ts';
import { ComposeProject } from '../testing/compose.ts';
import { type Docker, dockerIsMissing, openDocker } from '../testing/docker-daemon.ts';

const MiB = 2 ** 20;
const CLUSTER = 64 * 1024;
const DISK_BYTES = 64 * MiB;
const IMAGES: BaseImage[] = ['postgres:18', 'redis:7', 'node:24-bookworm-slim'];
/** Building takes most of it: dependencies come from a registry. */
const PATIENCE_MS = 900_000;
/** For one answer, on a machine that others use as well. */
const BUSY_MS = 180_000;

const missing = process.env.CI === undefined ? dockerIsMissing() : undefined;

let docker: Docker;
let close: () => Promise<void> = async () => {};
let made: BaseImage[] = [];
let project: ComposeProject;
const apis: RestClient[] = [];

beforeAll(async () => {
  if (missing !== undefined) return;
  ({ docker, close } = await openDocker());
  made = await provideImages(docker, IMAGES);
  project = await ComposeProject.build(docker, `tidemark-${randomBytes(4).toString('hex')}`);
  await project.up({ api: 2, worker: 2 });
  await connect();
}, PATIENCE_MS);

afterAll(async () => {
  try {
    await project?.remove();
    if (!docker?.isOurs && made.length > 0) await docker.run(['image', 'rm', ...made]);
  } finally {
    await close();
  }
}, PATIENCE_MS);

async function connect(): Promise<void> {
  apis.length = 0;
  for (const index of [1, 2]) {
    const url = `http://${await project.address('api', 7400, index)}`;
    apis.push(new RestClient(url, new AbortController().signal, project.secret('admin-token')));
  }
}

/** Storage nodes come by themselves, each when it has been asked at its address. */
async function joined(): Promise<void> {
  const wanted = ['alpha online', 'beta online'];
  const states = async () => {
    const { items } = await apis[0]!.get<{ items: { name: string; state: string }[] }>('/v1/storage-nodes');
    return items.map(({ name, state }) => `${name} ${state}`).sort();
  };
  await expect.poll(states, { timeout: BUSY_MS }).toEqual(wanted);
}

interface JoinToken {
  readonly id: string;
  readonly name: string;
  readonly usedAt: string | null;
}

const joinTokens = async () => (await apis[0]!.get<{ items: JoinToken[] }>('/v1/join-tokens')).items;

/** The disk as a guest outside the containers has it. */
async function guest<T>(node: string, volume: string, act: (disk: NbdClient) => Promise<T>): Promise<T> {
  const address = await project.address(`storage-${node}`, 10809);
  const disk = await NbdClient.connect({ uri: `nbd://${address}/${volume}` });
  try {
    return await act(disk);
  } finally {
    await disk.disconnect();
  }
}

/** Writes pieces of one cluster durably, each at its place. */
function write(pieces: ReadonlyMap<number, Buffer>): Promise<void> {
  return guest('alpha', 'disk', async disk => {
    for (const [offset, bytes] of pieces) await disk.write(offset, bytes);
    await disk.flush();
  });
}

function digest(node: string, volume: string): Promise<string> {
  return guest(node, volume, async disk => {
    const bytes = Buffer.alloc(disk.sizeBytes);
    for (let offset = 0; offset < bytes.length; offset += MiB) {
      await disk.read(offset, bytes.subarray(offset, offset + MiB));
    }
    return createHash('sha256').update(bytes).digest('hex');
  });
}

const pieces = (count: number, stride: number) =>
  new Map(Array.from({ length: count }, (_, n) => [n * stride * CLUSTER, randomBytes(CLUSTER)] as const));

type Started = { run: Run; backup: Backup };

test.skipIf(missing !== undefined)(
  `the main job in containers${missing ? ` (${missing})` : ''}`,
  async () => {
    const [one, other] = apis as [RestClient, RestClient];
    const spoken = await joinedWithTokens();
    await one.post('/v1/volumes', { name: 'disk', storageNode: 'alpha', sizeBytes: DISK_BYTES }, 'done');
    await other.post('/v1/repositories', { name: 'vault', storageNode: 'beta' }, 'done');

    const first = pieces(200, 5);
    await write(first);
    const monday = await digest('alpha', 'disk');
    const place = { volume: 'disk', repository: 'vault' };
    await one.post<Started>('/v1/backups', { ...place, kind: 'full', checkpoint: 'monday' }, 'done');

    const changes = pieces(12, 17);
    await write(changes);
    const tuesday = await digest('alpha', 'disk');
    const { backup } = await other.post<Started>(
      '/v1/backups',
      { ...place, kind: 'incremental', checkpoint: 'tuesday' },
      'done',
    );
    expect(await one.get<Backup>(`/v1/backups/${backup.id}`)).toMatchObject({
      kind: 'incremental',
      dirtyBytes: changes.size * CLUSTER,
      sentBytes: changes.size * CLUSTER,
    });

    for (const [checkpoint, wanted] of Object.entries({ monday, tuesday })) {
      const back = { volume: 'disk', checkpoint };
      const volume = { name: `back-${checkpoint}`, storageNode: 'beta' };
      await other.post('/v1/restores', { ...back, target: { volume } }, 'done');
      expect.soft(await digest('beta', volume.name), checkpoint).toBe(wanted);
      const file = { name: `${checkpoint}.raw`, storageNode: 'beta' };
      const { run } = await one.post('/v1/restores', { ...back, target: { file } }, 'done');
      const [sum] = (await inside('storage-beta', 'sha256sum', `${run.result?.filePath}`)).split(' ');
      expect.soft(sum, file.name).toBe(wanted);
    }

    await expectMetrics();

    // All ends by itself when it is asked to, and comes back with what it had.
    await project.compose('stop');
    const ended = (await project.containers()).map(({ service, state }) => `${service} ${state.ExitCode}`);
    expect(ended.filter(line => !line.endsWith(' 0'))).toEqual([]);
    await project.up({ api: 2, worker: 2 });
    await connect();
    await joined();
    expect(await joinTokens()).toEqual(spoken);
    expect(await digest('alpha', 'disk')).toBe(tuesday);
    const again = await apis[1]!.post<Started>(
      '/v1/backups',
      { ...place, kind: 'incremental', checkpoint: 'wednesday' },
      'done',
    );
    expect(again.run.state).toBe('succeeded');
    expect(await apis[0]!.get(`/v1/backups/${again.backup.id}`)).toMatchObject({ dirtyBytes: 0 });

    await project.remove();
    expect(await project.leftovers()).toEqual([]);
  },
  PATIENCE_MS,
);

/** Each storage node used its token, which stands in no log. Returns what the api knows of tokens. */
async function joinedWithTokens(): Promise<JoinToken[]> {
  await joined();
  const tokens = await joinTokens();
  expect(tokens.map(({ name, usedAt }) => [name, usedAt !== null]).sort()).toEqual([
    ['alpha', true],
    ['beta', true],
  ]);
  const log = await project.compose('logs');
  for (const node of ['alpha', 'beta']) {
    const token = await inside(`storage-${node}`, 'cat', '/var/lib/tidemark-join/token');
    expect(token).toMatch(/^tmj_/);
    expect(log.includes(token.trim())).toBe(false);
  }
  return tokens;
}

async function expectMetrics(): Promise<void> {
  for (const service of ['api', 'worker', 'storage-alpha', 'storage-beta']) {
    const metrics = ['node', 'scripts/docker/healthcheck.mjs', `http://${service}:7402/metrics`];
    const isThere = () => inside('api', ...metrics).then(() => 'there', String);
    await expect.poll(isThere, { timeout: BUSY_MS }).toBe('there');
  }
}

function inside(service: string, ...command: string[]): Promise<string> {
  return project.compose('exec', '-T', service, ...command);
}
