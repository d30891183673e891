// Goal: what a storage node says reaches the caller as it was meant, and a silent or absent one never hangs
// it. Method: a real gRPC server on loopback whose few calls misbehave on purpose.
import { createServer } from 'node:net';
import { Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js';
import { afterEach, expect, test } from 'vitest';
import { connectStorageNode, type StorageNodeClients } from './client.ts';
import { TidemarkError, toServiceError } from './errors.ts';
import { type JobServiceServer, JobServiceService, JobStatus } from './generated/tidemark/v1/job.ts';
import {
  type StorageNodeServiceServer,
  StorageNodeServiceService,
  StorageNodeStatus,
} from './generated/tidemark/v1/storage_node.ts';

const open: (() => void)[] = [];

afterEach(() => {
  for (const close of open.splice(0)) close();
});

async function startServer(jobs: Partial<JobServiceServer>): Promise<Server & { address: string }> {
  const server = new Server();
  server.addService(JobServiceService, jobs as JobServiceServer);
  server.addService(StorageNodeServiceService, {
    getStatus: (_call, reply) => reply(null, StorageNodeStatus.fromPartial({ name: 'alpha', volumes: 3 })),
  } satisfies StorageNodeServiceServer);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  open.push(() => server.forceShutdown());
  return Object.assign(server, { address: `127.0.0.1:${port}` });
}

function connect(address: string): StorageNodeClients {
  const clients = connectStorageNode({ name: 'alpha', address });
  open.push(() => clients.close());
  return clients;
}

const silent: Partial<JobServiceServer> = { getJob: () => {}, watchJob: () => {} };
const job = { jobId: 'j1' };

test('a unary call answers', async () => {
  const { address } = await startServer(silent);
  await expect(connect(address).storageNode.getStatus({})).resolves.toMatchObject({ volumes: 3 });
});

test('lists arrive whole, also of a storage node that has very much', async () => {
  const jobId = `backup-${'x'.repeat(1_000)}`;
  const jobs = Array.from({ length: 30_000 }, () => JobStatus.fromPartial({ jobId }));
  const { address } = await startServer({ ...silent, listJobs: (_call, reply) => reply(null, { jobs }) });
  expect((await connect(address).jobs.listJobs({})).jobs).toHaveLength(30_000);
});

test('an error arrives with its code and its words', async () => {
  const said = new TidemarkError(
    'repository-full',
    "Repository 'r' has 0 bytes left of 10. Raise its limit.",
  );
  const { address } = await startServer({ getJob: (_call, reply) => reply(toServiceError(said)) });
  await expect(connect(address).jobs.getJob(job)).rejects.toMatchObject(said.toJSON());
});

test('a storage node that is down is named, soon', async () => {
  const probe = createServer().listen(0, '127.0.0.1');
  await new Promise(resolve => probe.once('listening', resolve));
  const { port } = probe.address() as { port: number };
  await new Promise(resolve => probe.close(resolve));
  await expect(connect(`127.0.0.1:${port}`).storageNode.getStatus({})).rejects.toMatchObject({
    code: 'storage-node-unreachable',
    message:
      `Storage node 'alpha' does not answer at 127.0.0.1:${port} (connect ECONNREFUSED 127.0.0.1:${port}). ` +
      'Start it, or check its address, then try again.',
  });
});

test('a call that is never answered ends with its deadline', async () => {
  const { address } = await startServer(silent);
  await expect(connect(address).jobs.getJob(job, { timeoutMs: 50 })).rejects.toMatchObject({
    code: 'storage-node-unreachable',
  });
});

test('a storage node that stops before it has answered is one that does not answer', async () => {
  let arrived: () => void = () => {};
  const asked = new Promise<void>(resolve => {
    arrived = resolve;
  });
  const server = await startServer({ getJob: () => arrived() });
  const call = connect(server.address).jobs.getJob(job);
  await asked;
  server.forceShutdown();
  await expect(call).rejects.toMatchObject({
    code: 'storage-node-unreachable',
    message: expect.stringContaining('alpha'),
  });
});

test.each(['no json', '"text"', '{"code":7}'])(
  'an error that cannot be read, %s, is told as it came',
  async said => {
    const metadata = new Metadata();
    metadata.set('tidemark-error-bin', Buffer.from(said));
    const { address } = await startServer({
      getJob: (_call, reply) => reply({ code: status.NOT_FOUND, details: 'strange', metadata }),
    });
    await expect(connect(address).jobs.getJob(job)).rejects.toMatchObject({
      code: 'internal-error',
      message: expect.stringContaining('strange'),
    });
  },
);

test('an abort ends a call with its reason', async () => {
  const { address } = await startServer(silent);
  const controller = new AbortController();
  const call = connect(address).jobs.getJob(job, { signal: controller.signal });
  controller.abort(new Error('no longer wanted'));
  await expect(call).rejects.toThrow('no longer wanted');
});

test('a watch gives each status and ends with the stream', async () => {
  const { address } = await startServer({
    watchJob: call => {
      for (const state of ['running', 'concluded']) call.write(JobStatus.fromPartial({ ...job, state }));
      call.end();
    },
  });
  const states: string[] = [];
  for await (const status of connect(address).watchJob(job)) states.push(status.state);
  expect(states).toEqual(['running', 'concluded']);
});

test('a watch whose storage node dies says so', async () => {
  const server = await startServer({
    watchJob: call => call.write(JobStatus.fromPartial({ ...job, state: 'running' })),
  });
  const watching = (async () => {
    for await (const _ of connect(server.address).watchJob(job)) server.forceShutdown();
  })();
  await expect(watching).rejects.toMatchObject({ code: 'storage-node-unreachable' });
});

test('a watch that is left tells the storage node', async () => {
  let left: () => void = () => {};
  const cancelled = new Promise<void>(resolve => {
    left = resolve;
  });
  const { address } = await startServer({
    watchJob: call => {
      call.on('cancelled', left);
      call.write(JobStatus.fromPartial({ ...job, state: 'running' }));
    },
  });
  for await (const _ of connect(address).watchJob(job)) break;
  await cancelled;
});

test('a watch is aborted with the reason', async () => {
  const { address } = await startServer(silent);
  const signal = AbortSignal.timeout(30);
  const watching = (async () => {
    for await (const _ of connect(address).watchJob(job, { signal })) {
      // nothing ever comes
    }
  })();
  await expect(watching).rejects.toBe(await watching.catch(() => signal.reason));
  expect(signal.aborted).toBe(true);
});
