// Goal: a slow reader costs the server no memory, and one that goes away no work. Method: a real server and client,
// and a source that counts what was taken from it.
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import {
  ChangedBlocks,
  CheckpointServiceService,
  connectStorageNode,
  JobServiceService,
} from '@tidemark/proto';
import { expect, onTestFinished, test, vi } from 'vitest';
import { jobService } from './job-service.ts';
import { stream } from './stream.ts';

const { listChangedBlocks } = CheckpointServiceService;
const ranges = Array.from({ length: 8192 }, (_, index) => ({ offset: index * 1e9, length: 65_536 }));

interface Source {
  taken: number;
  ended: boolean;
}

async function endless(source: Source) {
  const method = stream({ report: () => {} }, listChangedBlocks, function* () {
    try {
      for (;;) yield ChangedBlocks.fromPartial({ ranges, nextOffset: ++source.taken });
    } finally {
      source.ended = true;
    }
  });
  return reach({ listChangedBlocks }, { listChangedBlocks: method });
}

/** Clients of a server that has these methods alone. */
async function reach(definition: object, implementation: object) {
  const server = new Server();
  server.addService(definition as ServiceDefinition, implementation as UntypedServiceImplementation);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  const clients = connectStorageNode({ name: 'alpha', address: `127.0.0.1:${port}` });
  onTestFinished(() => {
    clients.close();
    server.forceShutdown();
  });
  return clients;
}

test('what a reader does not take is not made', async () => {
  const source = { taken: 0, ended: false };
  const clients = await endless(source);
  const parts = clients.listChangedBlocks({})[Symbol.asyncIterator]();
  expect((await parts.next()).value?.ranges).toHaveLength(8192);
  let before = -1;
  await vi.waitFor(
    async () => {
      const { taken } = source;
      await delay(50);
      const isStill = taken === before;
      before = taken;
      expect(isStill).toBe(true);
    },
    { timeout: 5_000, interval: 50 },
  );
  expect(source.taken).toBeLessThan(40);
  const still = source.taken;
  for (let count = 0; count < 2 * still; count++) await parts.next();
  expect(source.taken).toBeGreaterThan(still);
  await parts.return?.(undefined);
  await expect.poll(() => source.ended).toBe(true);
});

test('a reader that gives up ends the source', async () => {
  const source = { taken: 0, ended: false };
  const clients = await endless(source);
  const giveUp = new AbortController();
  const read = async () => {
    for await (const part of clients.listChangedBlocks({}, { signal: giveUp.signal })) {
      if (part.nextOffset === 3) giveUp.abort(new Error('enough'));
    }
  };
  await expect(read()).rejects.toThrow('enough');
  await expect.poll(() => source.ended).toBe(true);
});

test('a reader that goes away ends a source that has nothing to tell', async () => {
  const ended = Promise.withResolvers<void>();
  const method = stream({ report: () => {} }, listChangedBlocks, async function* (_, signal) {
    yield ChangedBlocks.fromPartial({ ranges: [], nextOffset: 1 });
    await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()));
    ended.resolve();
  });
  const clients = await reach({ listChangedBlocks }, { listChangedBlocks: method });
  const parts = clients.listChangedBlocks({})[Symbol.asyncIterator]();
  await parts.next();
  await parts.return?.(undefined);
  await ended.promise;
});

test('a job is watched no faster than its watcher reads, and no longer', async () => {
  const source = { taken: 0, ended: false };
  const jobId = 'long'.repeat(50_000);
  const jobs = {
    async *watch() {
      try {
        for (;;) {
          await setImmediate();
          yield { jobId, type: 'backup', state: 'running', currentBytes: ++source.taken };
        }
      } finally {
        source.ended = true;
      }
    },
  };
  const context = { report: () => {} };
  const { implementation } = jobService({ context, jobs } as unknown as Parameters<typeof jobService>[0]);
  const { watchJob } = JobServiceService;
  const clients = await reach({ watchJob }, { watchJob: implementation.watchJob });
  const statuses = clients.watchJob({ jobId: 'one' })[Symbol.asyncIterator]();
  await statuses.next();
  await delay(300);
  expect(source.taken).toBeLessThan(60);
  await statuses.return?.(undefined);
  await expect.poll(() => source.ended).toBe(true);
});
