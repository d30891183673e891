// Jobs that begin and end while guests write as fast as they can, and targets that hang or die.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access } from 'node:fs/promises';
import { SeededRandom } from '@tidemark/engine/testing';
import { expect } from 'vitest';
import { ours, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const MiB = 1 << 20;
const ROUNDS = 200;
const PAUSE_MS_MAX = 50;

async function rawDisk(s: Session, name: string, size: number): Promise<void> {
  await s.image(name, { format: 'raw', size });
  await s.add({ driver: 'raw', 'node-name': name, file: { driver: 'file', filename: s.path(name) } });
}

/** A guest that writes until it is told to stop. */
async function writer(s: Session, node: string, size: number): Promise<{ stop(): Promise<number> }> {
  const guest = await s.guest(node);
  const random = new SeededRandom(17);
  let stopped = false;
  let writes = 0;
  const writing = (async () => {
    while (!stopped) {
      const at = random.int(0, size / 4096 - 17) * 4096;
      const printed = await guest.run(`write -P ${random.int(1, 255)} ${at} ${random.int(1, 16) * 4096}`);
      expect(printed).not.toContain('failed');
      writes++;
    }
  })();
  return {
    async stop() {
      stopped = true;
      await writing;
      return writes;
    },
  };
}

ours('CC-01', '200 backups begun and cancelled under a guest that writes leave nothing behind', async s => {
  const size = 16 * MiB;
  await rawDisk(s, 'disk', size);
  await rawDisk(s, 'target', size);
  await rawDisk(s, 'kept', size);
  await s.io('disk', `write -P 9 0 ${size}`);
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'b' });
  await s.ok('blockdev-backup', { 'job-id': 'anchor', device: 'disk', target: 'kept', sync: 'full' });
  await s.jobState('anchor', 'null');
  const nodesBefore = await nodeNames(s);
  const load = await writer(s, 'disk', size);
  const random = new SeededRandom(1);
  for (let round = 0; round < ROUNDS; round++) {
    const id = `round${round}`;
    const how = round % 2 === 0 ? { sync: 'full' } : { sync: 'bitmap', bitmap: 'b', 'bitmap-mode': 'never' };
    await s.ask('blockdev-backup', {
      'job-id': id,
      device: 'disk',
      target: 'target',
      speed: 4 * MiB,
      ...how,
    });
    await new Promise(resolve => setTimeout(resolve, random.int(0, PAUSE_MS_MAX)));
    // The job may have ended by itself.
    await s.daemon.qmp.execute('job-cancel', { id });
    await s.jobState(id, 'null');
  }
  expect(await load.stop()).toBeGreaterThan(ROUNDS);
  expect(await nodeNames(s)).toEqual(nodesBefore);
  const bitmap = await s.bitmap('disk', 'b');
  expect(bitmap).toMatchObject({ busy: false, recording: true });
  const increment = { 'job-id': 'last', device: 'disk', target: 'kept', sync: 'incremental', bitmap: 'b' };
  await s.ok('blockdev-backup', increment);
  await s.jobState('last', 'null');
  await s.closeGuest('disk');
  for (const name of ['disk', 'kept']) await s.ok('blockdev-del', { 'node-name': name });
  expect(await s.compare('disk', 'kept', { one: 'raw', other: 'raw' })).toBe(true);
});

async function nodeNames(s: Session): Promise<string[]> {
  const nodes = await s.ask<{ 'node-name': string }[]>('query-named-block-nodes');
  return nodes.map(node => node['node-name']).sort();
}

scenario('CC-02', 'two backups of one disk to two targets at once keep two moments', async s => {
  const size = 4 * MiB;
  for (const name of ['disk', 'one', 'two']) await rawDisk(s, name, size);
  await s.io('disk', `write -P 1 0 ${size}`);
  const job = { device: 'disk', sync: 'full', speed: 65536 };
  await s.ok('blockdev-backup', { ...job, 'job-id': 'first', target: 'one' });
  await s.io('disk', 'write -P 2 1M 1M');
  await s.ok('blockdev-backup', { ...job, 'job-id': 'second', target: 'two' });
  await s.io('disk', 'write -P 3 1M 64k', 'write -P 3 3M 64k');
  for (const id of ['second', 'first']) {
    await s.ok('block-job-set-speed', { device: id, speed: 0 });
    await s.jobState(id, 'null');
  }
  for (const name of ['one', 'two']) {
    await s.ok('blockdev-del', { 'node-name': name });
    await s.add({ driver: 'raw', 'node-name': name, file: { driver: 'file', filename: s.path(name) } });
  }
  expect(await s.io('one', `read -P 1 0 ${size}`)).not.toContain('failed');
  expect(await s.io('two', 'read -P 1 0 1M', 'read -P 2 1M 1M', 'read -P 1 2M 2M')).not.toContain('failed');
});

/** A server of QEMU's for a target that is to hang or die. */
async function startServer(s: Session): Promise<ChildProcess> {
  await s.image('remote', { format: 'raw', size: 4 * MiB });
  const socket = s.path('remote.sock');
  const server = spawn('qemu-nbd', ['-t', '-e', '0', '-f', 'raw', '-k', socket, s.path('remote')]);
  await s.until('the server', () =>
    access(socket).then(
      () => true,
      () => false,
    ),
  );
  return server;
}

function lostTarget(signal: 'SIGKILL' | 'SIGSTOP') {
  return async (s: Session): Promise<void> => {
    const server = await startServer(s);
    try {
      await rawDisk(s, 'disk', 4 * MiB);
      await s.io('disk', 'write -P 1 0 4M');
      await s.add({
        driver: 'nbd',
        'node-name': 'target',
        server: { type: 'unix', path: s.path('remote.sock') },
      });
      const policy = { 'on-cbw-error': 'break-snapshot', 'cbw-timeout': 1 };
      const job = { 'job-id': 'job', device: 'disk', target: 'target', sync: 'none', ...policy };
      await s.ok('blockdev-backup', job);
      server.kill(signal);
      expect(await s.io('disk', 'write -P 2 0 64k', 'write -P 3 1M 64k')).not.toContain('failed');
      const { data } = await s.event('BLOCK_JOB_COMPLETED', { device: 'job' });
      expect(String(data?.error)).toContain('frozen moment');
      await s.jobState('job', 'null');
    } finally {
      const exit = once(server, 'exit');
      server.kill('SIGKILL');
      if (server.exitCode === null && server.signalCode === null) await exit;
    }
  };
}
ours('CC-05', 'a target whose server dies costs the frozen moment, never the guest', lostTarget('SIGKILL'));
ours('CC-06', 'a target that hangs costs the frozen moment, never the guest', lostTarget('SIGSTOP'));
