// Goal: a restore that cannot start lets go of the backup, even where its target cannot be undone. Method: the runner
// with a real server and block graph, and volumes that cannot be deleted.
import { BlockGraph, MiB, systemClock, TaskJob } from '@tidemark/engine';
import { MemoryNode } from '@tidemark/engine/testing';
import { expect, onTestFinished, test, vi } from 'vitest';
import { NbdExports } from '../exports/nbd-exports.ts';
import { JobRunner } from '../host/job-runner.ts';
import { RestoreRunner } from './restore-runner.ts';

const VOLUME = {
  volumeId: 'v',
  name: 'disk',
  format: 'raw',
  checkpointId: '',
  checkpointName: '',
  backupId: 'b',
};

test('a start that fails closes the backup, though its target stays, and says why it failed', async () => {
  const exports = new NbdExports({ listen: { host: '127.0.0.1', port: 0 } });
  await exports.start();
  onTestFinished(() => exports.close());
  const sourceUri = exports.add({ name: 'backup', listed: false, node: new MemoryNode({ sizeBytes: MiB }) });
  const graph = new BlockGraph();
  const node = graph.add({ name: 'volume' }, () => new MemoryNode({ sizeBytes: MiB }));
  const jobs = new JobRunner({ clock: systemClock, report: () => {} });
  // Whoever speaks QMP gives jobs names, too.
  const work = async () => {};
  jobs.registry.add(new TaskJob({ id: 'restore-r', type: 'stream', clock: systemClock, work }));
  const remove = vi.fn(() => Promise.reject(new Error('the disk is away')));
  const volumes = { create: async () => ({ node }), delete: remove };
  const parts = { graph, volumes, jobs, store: {}, now: () => 0, reconnectMs: 0 };
  const restores = new RestoreRunner(parts as unknown as ConstructorParameters<typeof RestoreRunner>[0]);
  const request = { restoreId: 'r', sourceUri, sumsUri: '', sizeBytes: MiB, speedBytesPerSecond: 0 };
  const started = restores.start({ ...request, skipDamage: false, target: { kind: 'volume', ...VOLUME } });
  await expect(started).rejects.toThrow(/restore-r/);
  expect(remove).toHaveBeenCalled();
  expect(graph.has('source-r')).toBe(false);
  await expect.poll(() => exports.connections('backup')).toBe(0);
});
