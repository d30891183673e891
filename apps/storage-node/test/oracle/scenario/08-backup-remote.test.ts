// A backup whose target is on a server that goes away while it runs.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { expect } from 'vitest';
import { allJobsGone, jobEnded, newDisk, startBackup } from '../backup-chain.ts';
import { lookAt, offsetOf } from '../job-watch.ts';
import { different, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const MiB = 1024 * 1024;

async function serve(s: Session): Promise<ChildProcess> {
  const server = spawn('qemu-nbd', [
    '-t',
    '-e',
    '0',
    '-f',
    'raw',
    '-k',
    s.path('remote.sock'),
    s.path('remote'),
  ]);
  await s.until('the server', () =>
    stat(s.path('remote.sock')).then(
      () => true,
      () => false,
    ),
  );
  return server;
}

async function endServer(server: ChildProcess): Promise<void> {
  const exit = once(server, 'exit');
  server.kill('SIGKILL');
  await exit;
}

/** A slow backup to a server elsewhere, which goes away when the first step is done. */
async function loseServer(s: Session): Promise<void> {
  await s.image('remote', { format: 'raw', size: '5M' });
  const server = await serve(s);
  try {
    await newDisk(s, 'disk', { size: '5M' });
    await s.io('disk', 'write -P 0x33 0 5M');
    await s.add({
      driver: 'nbd',
      'node-name': 'target',
      server: { type: 'unix', path: s.path('remote.sock') },
      'reconnect-delay': 10,
    });
    await startBackup(s, 'disk', 'target', { sync: 'full', speed: MiB });
    await s.until('the first step', async () => (await offsetOf(s, 'target')) > 0);
  } finally {
    await endServer(server);
  }
  const job = await lookAt(s, 'target');
  expect(job!.offset).toBeLessThan(job!.len);
  await s.ok('block-job-set-speed', { device: 'target', speed: 0 });
  await new Promise(resolve => setTimeout(resolve, 1000));
}

scenario('BJ-16', 'a backup goes on when its target comes back in time', async s => {
  await loseServer(s);
  const server = await serve(s);
  try {
    const { data } = await jobEnded(s, 'target');
    expect(data).toMatchObject({ offset: 5 * MiB, len: 5 * MiB });
    await s.ok('blockdev-del', { 'node-name': 'target' });
  } finally {
    await endServer(server);
  }
});

different(
  'BJ-16c',
  'a forced cancel does not wait for a target that is away',
  '0017-a-cancelled-copy-is-no-error',
  async s => {
    await loseServer(s);
    const before = performance.now();
    await s.ok('job-cancel', { id: 'target' });
    await s.event('BLOCK_JOB_CANCELLED', { device: 'target' });
    expect(performance.now() - before).toBeLessThan(2000);
    await allJobsGone(s);
  },
);
