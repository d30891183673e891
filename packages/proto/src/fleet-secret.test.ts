// Goal: a storage node takes orders from holders of the fleet's secret alone, and no refusal tells what it is. Method:
// a real gRPC server on loopback behind the check, asked with and without.
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { afterEach, expect, test } from 'vitest';
import { connectStorageNode } from './client.ts';
import { isSameSecret, requireFleetSecret } from './fleet-secret.ts';
import { type JobServiceServer, JobServiceService, JobStatus } from './generated/tidemark/v1/job.ts';

const SECRET = 'a-secret-of-the-fleet-that-is-long-enough';
const open: (() => void)[] = [];
let calls = 0;
const refusals: { peer: string; error: Error }[] = [];

afterEach(() => {
  calls = 0;
  refusals.length = 0;
  for (const close of open.splice(0)) close();
});

async function start(): Promise<string> {
  const server = new Server({
    interceptors: [requireFleetSecret(SECRET, refused => refusals.push(refused))],
  });
  server.addService(JobServiceService, {
    getJob: (call, reply) => {
      calls += 1;
      // What handlers could log must not hold it either.
      const metadata = JSON.stringify(call.metadata.getMap());
      reply(null, JobStatus.fromPartial({ jobId: metadata }));
    },
    watchJob: call => {
      calls += 1;
      call.write(JobStatus.fromPartial({ jobId: 'watched' }));
      call.end();
    },
  } satisfies Partial<JobServiceServer> as unknown as JobServiceServer);
  open.push(() => server.forceShutdown());
  return new Promise((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(`127.0.0.1:${port}`),
    ),
  );
}

function connect(address: string, fleetSecret?: string) {
  const clients = connectStorageNode({ name: 'alpha', address, fleetSecret });
  open.push(() => clients.close());
  return clients;
}

async function watched(clients: ReturnType<typeof connect>): Promise<string[]> {
  const seen: string[] = [];
  for await (const { jobId } of clients.watchJob({ jobId: 'j' })) seen.push(jobId);
  return seen;
}

test('who knows it is heard, for calls and for streams, and handlers do not see it', async () => {
  const clients = connect(await start(), SECRET);
  const { jobId } = await clients.jobs.getJob({ jobId: 'j' });
  expect(jobId).not.toContain(SECRET);
  expect(await watched(clients)).toEqual(['watched']);
});

test.each([
  ['none', undefined, /^Storage node 'alpha' .* came with no fleet's secret/],
  ['another', `${SECRET}x`, /^Storage node 'alpha' .* came with another secret/],
  ['part of it', SECRET.slice(0, -1), /^Storage node 'alpha' .* came with another secret/],
])('who has %s is refused before anything begins', async (_what, secret, words) => {
  const clients = connect(await start(), secret);
  const refused = { code: 'fleet-secret-refused', message: expect.stringMatching(words) };
  await expect(clients.jobs.getJob({ jobId: 'j' })).rejects.toMatchObject(refused);
  await expect(watched(clients)).rejects.toMatchObject(refused);
  await expect(clients.jobs.getJob({ jobId: 'j' })).rejects.not.toThrow(SECRET);
  expect(calls).toBe(0);
  expect(refusals).toHaveLength(3);
  expect(refusals[0]).toMatchObject({
    peer: expect.stringMatching(/^127\.0\.0\.1:/),
    error: { code: 'fleet-secret-refused', message: expect.stringMatching(/^\/tidemark\.v1\./) },
  });
});

test('a server without one is good to ask with one', async () => {
  const server = new Server();
  server.addService(JobServiceService, {
    getJob: (_call, reply) => reply(null, JobStatus.fromPartial({ jobId: 'j' })),
  } satisfies Partial<JobServiceServer> as unknown as JobServiceServer);
  open.push(() => server.forceShutdown());
  const port = await new Promise<number>(resolve =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_error, bound) => resolve(bound)),
  );
  await expect(connect(`127.0.0.1:${port}`, SECRET).jobs.getJob({})).resolves.toMatchObject({ jobId: 'j' });
});

test('secrets are equal only when they are', () => {
  expect([isSameSecret('a', 'a'), isSameSecret('a', 'b'), isSameSecret('', 'a')]).toEqual([
    true,
    false,
    false,
  ]);
});
