// Goal: a restored file belongs to its run until that has recorded it: a run that fails or is cancelled takes it back,
// also when its storage node died in between, and never another run's. Method: a whole storage node over gRPC, a
// backup's export served by the test.
import { randomBytes, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { BackupServer } from '../src/testing/backup-server.ts';
import { MiB } from '../src/testing/backups.ts';
import { jobEnd } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

const contents = randomBytes(MiB);
let node: RunningStorageNode;
let server: BackupServer;

beforeEach(async () => {
  node = await RunningStorageNode.start();
  server = await BackupServer.start(contents);
});

const start = (runId: string, name = 'disk.raw') =>
  node.clients.jobs.startRestore({
    step: newStep({ runId, step: 'start' }),
    ...{ sourceUri: server.uri, sumsUri: '', sizeBytes: MiB },
    target: { $case: 'file', value: { name } },
  });

async function restore(runId: string): Promise<string> {
  const { jobId, filePath } = await start(runId);
  expect((await jobEnd(node, jobId)).error).toBeUndefined();
  expect((await readFile(filePath)).equals(contents)).toBe(true);
  return jobId;
}

const verb = (what: 'cancelJob' | 'dismissJob', runId: string, jobId: string) =>
  node.clients.jobs[what]({ step: newStep({ runId, step: what }), jobId });
const left = () => readdir(join(node.stateDir, 'restores'));

test('a run that turns back after its file was published takes it back', async () => {
  const runId = randomUUID();
  const jobId = await restore(runId);
  await expect(verb('cancelJob', runId, jobId)).rejects.toMatchObject({ code: 'job-state' });
  expect(await left()).toEqual([]);
});

test('also after its storage node was restarted and has forgotten the job', async () => {
  const runId = randomUUID();
  const jobId = await restore(runId);
  await node.restart();
  await expect(verb('cancelJob', runId, jobId)).rejects.toMatchObject({ code: 'job-not-found' });
  expect(await left()).toEqual([]);
});

test('a start that is repeated after a restart makes the file anew', async () => {
  const runId = randomUUID();
  await restore(runId);
  await node.restart();
  await restore(runId);
});

test('what was taken over stays, and no other run can take it back', async () => {
  const [runId, other] = [randomUUID(), randomUUID()];
  const jobId = await restore(runId);
  await expect(start(other)).rejects.toMatchObject({ code: 'file-exists' });
  await expect(verb('cancelJob', other, `restore-${other}`)).rejects.toMatchObject({ code: 'job-not-found' });
  expect(await left()).toContain('disk.raw');
  await verb('dismissJob', runId, jobId);
  expect(await left()).toEqual(['disk.raw']);
  await expect(verb('cancelJob', runId, jobId)).rejects.toMatchObject({ code: 'job-not-found' });
  await node.restart();
  expect(await left()).toEqual(['disk.raw']);
});
