// Goal: several apis and workers share one catalog and one queue safely: what is asked of all at once is done once, a
// run is steered from any api, and whoever is killed or asked to stop in the middle of a run costs neither the run nor
// a byte copied twice. Method: the real services, 2 apis, 3 workers and 2 storage nodes, with both kinds of queue.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Catalog } from '@tidemark/catalog';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { QueueServer, redisIsInstalled } from '../crash/queue-server.ts';
import { type Backup, RestClient, type Run } from '../demo/rest-client.ts';
import { type Answer, digestOf, Operator } from './testing/operator.ts';

const MiB = 1024 * 1024;
const DISK_BYTES = 16 * MiB;
/** Slow enough that a run is still at work when it is looked at, whatever the machine does. */
const CRAWL_BYTES_PER_SECOND = 64 * 1024;
const PATIENCE_MS = 120_000;
/** A killed worker's runs wait this long. One that stops hands them over at once. */
const LEASE_MS = 5_000;

interface Queue {
  readonly url: string | undefined;
  stop(): Promise<void>;
}

async function ownRedis(): Promise<Queue> {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-redis-'));
  const server = await QueueServer.start(folder);
  const stop = async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  return { url: server.url, stop };
}

const noRedis = !redisIsInstalled() && process.env.CI === undefined;
const QUEUES = [
  {
    name: 'Postgres',
    missing: false,
    open: async (): Promise<Queue> => ({ url: undefined, stop: async () => {} }),
  },
  { name: noRedis ? 'Redis (redis-server is not installed)' : 'Redis', missing: noRedis, open: ownRedis },
];

describe.each(QUEUES)('with the queue in $name', ({ missing, open }) => {
  let queue: Queue;
  let operator: Operator;
  let apis: RestClient[];
  let catalog: Catalog;
  let held: string;

  beforeAll(async () => {
    if (missing) return;
    queue = await open();
    operator = await Operator.open(
      { disk: `${DISK_BYTES / MiB}MiB` },
      {
        stack: {
          apis: 2,
          workers: 3,
          environment: { TIDEMARK_WORKER_LEASE_MS: `${LEASE_MS}` },
          ...(queue.url && { queueUrl: queue.url }),
        },
      },
    );
    apis = operator.stack.urls.map(url => new RestClient(url, new AbortController().signal));
    catalog = Catalog.connect(operator.stack.databaseUrl, { connectionsMax: 2 });
    const bytes = randomBytes(DISK_BYTES);
    held = digestOf(bytes);
    await operator.write('disk', 0, bytes);
  }, PATIENCE_MS);

  afterAll(async () => {
    await catalog?.close();
    await operator?.close();
    await queue?.stop();
  }, PATIENCE_MS);

  const api = (n: number) => apis[n % 2]!;

  /** A full backup that takes minutes, once some of it is copied. */
  async function slowBackup(checkpoint: string): Promise<{ run: Run; backup: Backup }> {
    const body = { volume: 'disk', repository: 'vault', kind: 'full', checkpoint };
    const started: Answer = await api(0).post(
      '/v1/backups',
      { ...body, speedBytesPerSecond: CRAWL_BYTES_PER_SECOND },
      'accepted',
    );
    await until(async () => (await api(1).get<Run>(`/v1/runs/${started.run.id}`)).progress.currentBytes > 0);
    return started;
  }

  async function until(isSo: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (!(await isSo())) {
      if (performance.now() > deadline) throw new Error('it does not come to that');
      await delay(100);
    }
  }

  async function eventsOf(runId: string) {
    const events = await catalog.events.listAfter(0, 10_000);
    return events.filter(event => event.runId === runId);
  }

  /** Process ids of the workers that have held the run, in order. */
  async function holders(runId: string): Promise<number[]> {
    const claims = (await eventsOf(runId)).filter(({ kind }) => kind === 'run-claimed');
    return claims.map(({ data }) => Number(/-(\d+)-[0-9a-f]+$/.exec(`${data.owner}`)![1]));
  }

  async function expectDoneOnce({ run, backup }: { run: Run; backup: Backup }): Promise<void> {
    await api(1).post(`/v1/runs/${run.id}/speed`, { bytesPerSecond: 0 }, 'accepted');
    const ended = await api(0).follow(run.id, () => {});
    expect(ended.result).toMatchObject({ restarts: 0 });
    expect(await api(1).get<Backup>(`/v1/backups/${backup.id}`)).toMatchObject({
      dirtyBytes: DISK_BYTES,
      sentBytes: DISK_BYTES,
    });
    expect(await operator.restored(backup.id, `of-${run.id}`)).toBe(held);
  }

  test.skipIf(missing)('of requests for one name that come at once one is taken, of others all', async () => {
    const create = (name: string, n: number) =>
      api(n).post('/v1/volumes', { name, storageNode: 'alpha', sizeBytes: MiB }, 'done');
    const same = await Promise.allSettled(Array.from({ length: 8 }, (_, n) => create('same', n)));
    const refused = same.filter(outcome => outcome.status === 'rejected');
    expect(refused).toHaveLength(7);
    for (const { reason } of refused) expect(`${reason}`).toMatch(/volume-name-taken/);
    await Promise.all(Array.from({ length: 8 }, (_, n) => create(`own-${n}`, n)));
    const { items } = await operator.get('volumes?limit=100');
    const names = items.map(({ name }: { name: string }) => name).sort();
    expect(names).toEqual(['disk', ...Array.from({ length: 8 }, (_, n) => `own-${n}`), 'same']);
  });

  test.skipIf(missing)('backups of many volumes at once are each done once, by several workers', async () => {
    const started: Answer[] = await Promise.all(
      Array.from({ length: 8 }, (_, n) => {
        const body = { volume: `own-${n}`, repository: 'vault', kind: 'full', checkpoint: 'together' };
        return api(n).post('/v1/backups', body, 'done');
      }),
    );
    const claims = await Promise.all(started.map(({ run }) => holders(run.id)));
    expect(claims.map(({ length }) => length)).toEqual(started.map(() => 1));
  });

  test.skipIf(missing)('a run is cancelled at another api than it was asked of', async () => {
    const { run, backup } = await slowBackup('given-up');
    await api(1).post(`/v1/runs/${run.id}/cancel`, undefined, 'accepted');
    await until(async () => (await api(0).get<Run>(`/v1/runs/${run.id}`)).state === 'cancelled');
    await expect(api(1).get(`/v1/backups/${backup.id}`)).rejects.toThrow(/backup-not-found/);
  });

  test.skipIf(missing)(
    'a worker that is asked to stop hands its run over; nothing is copied twice',
    async () => {
      const started = await slowBackup('handed-over');
      const [first] = await holders(started.run.id);
      process.kill(first!, 'SIGTERM');
      await until(async () => (await holders(started.run.id)).length === 2);
      const kinds = (await eventsOf(started.run.id)).map(({ kind }) => kind);
      expect(kinds.filter(kind => /handed-back|taken-over|retrying/.test(kind))).toEqual(['run-handed-back']);
      expect((await holders(started.run.id))[1]).not.toBe(first);
      await expectDoneOnce(started);
    },
  );

  test.skipIf(missing)('a worker that is killed is replaced by another, which goes on', async () => {
    const started = await slowBackup('taken-over');
    const [first] = await holders(started.run.id);
    process.kill(first!, 'SIGKILL');
    await until(async () => (await holders(started.run.id)).length === 2);
    expect((await holders(started.run.id))[1]).not.toBe(first);
    await expectDoneOnce(started);
  });

  test.skipIf(missing)('an api that is killed loses nothing that it has taken', async () => {
    const started = await slowBackup('asked-of-the-dead');
    const waiting = fetch(
      `${operator.stack.urls[0]}/v1/runs/${started.run.id}?wait=done&waitTimeoutMs=60000`,
    ).then(
      answer => answer.text(),
      () => 'cut off',
    );
    await operator.kill('api');
    await waiting;
    expect(await api(1).get<Run>(`/v1/runs/${started.run.id}`)).toMatchObject({ state: 'running' });
    await until(() =>
      fetch(`${operator.stack.urls[0]}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
    await expectDoneOnce(started);
  });
});
