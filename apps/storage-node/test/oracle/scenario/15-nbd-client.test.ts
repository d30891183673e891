// Disks on other servers: what opening them meets, and what clients may ask an export about.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { expect } from 'vitest';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const MiB = 1 << 20;

/** A server of another process: `ro` and `rw` of one disk of 1 MiB. */
async function withServer(s: Session, play: (server: object) => Promise<void>): Promise<void> {
  const path = s.path('remote.sock');
  const pid = s.path('remote.pid');
  const server: ChildProcess = spawn('qemu-storage-daemon', [
    ...['--blockdev', 'null-co,node-name=n,size=1048576,read-zeroes=on', '--pidfile', pid],
    ...['--nbd-server', `addr.type=unix,addr.path=${path}`],
    ...['--export', 'nbd,id=ro,name=ro,node-name=n'],
    ...['--export', 'nbd,id=rw,name=rw,node-name=n,writable=on'],
  ]);
  try {
    await s.until('the server', () =>
      stat(pid).then(
        () => true,
        () => false,
      ),
    );
    await play({ type: 'unix', path });
  } finally {
    const exit = once(server, 'exit');
    server.kill('SIGKILL');
    await exit;
  }
}

const disk = (more: object) => ({ driver: 'nbd', 'node-name': 'disk', ...more });

scenario('NB-20', 'what cannot be opened says why', async s => {
  await s.refused('blockdev-add', disk({}));
  await s.refused('blockdev-add', disk({ server: { type: 'unix' } }));
  await s.refused('blockdev-add', disk({ server: { type: 'unix', path: s.path('nobody') } }));
  const nobody = { type: 'inet', host: '127.0.0.1', port: '1' };
  await s.refused('blockdev-add', disk({ server: nobody }));
  await s.refused('blockdev-add', disk({ server: { ...nobody, port: 'x' } }));
  await s.refused('blockdev-add', disk({ server: { ...nobody, host: 'nobody.invalid' } }));
  await s.refused('blockdev-add', disk({ server: { type: 'fd', str: '99' } }));
  await withServer(s, async server => {
    await s.refused('blockdev-add', disk({ server }));
    await s.refused('blockdev-add', disk({ server, export: 'nothing' }));
    await s.refused('blockdev-add', disk({ server, export: 'n'.repeat(4097) }));
    await s.refused('blockdev-add', disk({ server, export: 'rw', 'tls-creds': 'none' }));
    await s.refused('blockdev-add', disk({ server, export: 'rw', 'reconnect-delay': -1 }));
    await s.refused('blockdev-add', disk({ server, export: 'ro' }));
  });
  await s.ok('query-named-block-nodes');
});

scenario('NB-21', 'a read-only export is opened read-only, asked for or found so', async s => {
  await withServer(s, async server => {
    for (const how of [{ 'read-only': true }, { 'read-only': false, 'auto-read-only': true }]) {
      await s.ok('blockdev-add', disk({ server, export: 'ro', ...how }));
      await s.ok('query-named-block-nodes', { flat: true });
      await s.ok('blockdev-del', { 'node-name': 'disk' });
    }
    const file = { driver: 'nbd', server, export: 'rw' };
    await s.ok('blockdev-add', { driver: 'raw', 'node-name': 'over', file });
    await s.ok('query-named-block-nodes', { flat: true });
    await s.io('over', 'write -P 1 0 64k', 'read 0 64k', 'write -z 0 1M', 'discard 64k 64k', 'flush');
  });
});

scenario('NB-22', 'a disk elsewhere is reopened and not grown', async s => {
  await withServer(s, async server => {
    const options = disk({ server, export: 'rw', 'reconnect-delay': 3 });
    await s.ok('blockdev-add', options);
    for (const change of [{ 'reconnect-delay': 4 }, { export: 'ro' }]) {
      await s.refused('blockdev-reopen', { options: [{ ...options, ...change }] });
    }
    await s.refused('blockdev-reopen', { options: [disk({ server, export: 'rw' })] });
    await s.ok('blockdev-reopen', { options: [{ ...options, 'read-only': true }] });
    await s.refused('block_resize', { 'node-name': 'disk', size: MiB });
    await s.ok('blockdev-reopen', { options: [options] });
    await s.refused('block_resize', { 'node-name': 'disk', size: 2 * MiB });
    await s.ok('block_resize', { 'node-name': 'disk', size: MiB });
    await s.ok('query-named-block-nodes', { flat: true });
  });
});

scenario('NB-23', 'addresses that cannot be listened on say why', async s => {
  const inet = (more: object) => ({
    addr: { type: 'inet', data: { host: '127.0.0.1', port: '0', ...more } },
  });
  await s.ok('nbd-server-start', inet({}));
  await s.ok('nbd-server-stop');
  await s.refused('nbd-server-start', inet({ port: 'x' }));
  await s.ok('nbd-server-start', inet({ port: '' }));
  await s.ok('nbd-server-stop');
  await s.refused('nbd-server-start', inet({ host: '', port: '' }));
  await s.refused('nbd-server-start', inet({ port: '1', to: 70_000 }));
  await s.refused('nbd-server-start', inet({ ipv4: false }));
  await s.refused('nbd-server-start', inet({ host: '10.255.255.1', port: '10999' }));
  await s.refused('nbd-server-start', inet({ host: 'nobody.invalid' }));
  const unix = (path: string) => ({ addr: { type: 'unix', data: { path } } });
  await s.refused('nbd-server-start', unix(s.path('none/socket')));
  await s.refused('nbd-server-start', { addr: { type: 'unix', data: {} } });
  await s.refused('nbd-server-start', { ...unix(s.path('x')), 'tls-creds': 'none' });
  await s.refused('nbd-server-start', { ...unix(s.path('x')), 'max-connections': -1 });
  const tooLong = await s.refused('nbd-server-start', unix(`/${'x'.repeat(108)}`));
  expect(tooLong.desc).toContain('is too long');
});

scenario('NB-24', 'clients beyond the bound wait until another one leaves', async s => {
  const path = s.path('bound.sock');
  await s.add({ driver: 'null-co', 'node-name': 'n', size: MiB });
  const addr = { type: 'unix', data: { path } };
  await s.ok('nbd-server-start', { addr, 'max-connections': 1 });
  await s.ok('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'n', name: 'e' });
  const uri = `nbd+unix:///e?socket=${path}`;
  const first = spawn('qemu-io', ['-r', '-f', 'raw', uri], { stdio: ['pipe', 'pipe', 'ignore'] });
  await once(first.stdout, 'data');
  let done = false;
  const second = s.peek('nbdinfo', '--size', uri).then(({ stdout }) => {
    done = true;
    return stdout;
  });
  await new Promise(resolve => setTimeout(resolve, 500));
  expect(done).toBe(false);
  first.stdin.end('quit\n');
  s.note('the second', await second);
});
