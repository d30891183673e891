// The drivers: what guests see through each, and how each refuses what it cannot do.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { expect } from 'vitest';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const MiB = 1 << 20;

const file = (s: Session, name: string) => ({ driver: 'file', filename: s.path(name) });

async function rawDisk(s: Session, name = 'disk', more: object = {}): Promise<void> {
  await s.image(name, { format: 'raw', size: '4M' });
  await s.add({ driver: 'raw', 'node-name': name, ...more, file: file(s, name) });
}

scenario('DR-01', 'null-co takes everything and reads as zeroes where it is told to', async s => {
  await s.add({ driver: 'null-co', 'node-name': 'null', size: 4 * MiB, 'read-zeroes': true });
  await s.io('null', 'write -P 1 0 64k', 'read -P 0 0 4M', 'discard 0 1M', 'write -z 0 1M');
  await s.map('guest-null');
  await s.add({ driver: 'null-co', 'node-name': 'odd', size: 1000 });
  await s.add({ driver: 'null-co', 'node-name': 'default' });
  await s.qmp('query-named-block-nodes');
});

scenario('DR-02', 'raw shows a window of its file', async s => {
  await s.image('disk', { format: 'raw', size: '4M' });
  await s.add({ driver: 'raw', 'node-name': 'window', offset: MiB, size: MiB, file: file(s, 'disk') });
  await s.io('window', 'write -P 7 0 1M', 'read -P 7 0 1M', 'read 1M 512');
  await s.closeGuest('window');
  await s.ok('blockdev-del', { 'node-name': 'window' });
  await s.add({ driver: 'raw', 'node-name': 'all', file: file(s, 'disk') });
  await s.io('all', 'read -P 0 0 1M', 'read -P 7 1M 1M', 'read -P 0 2M 2M');
});

scenario('DR-03', 'detect-zeroes makes zeroes of writes of nothing else', async s => {
  for (const [name, detect, discard] of [
    ['off', 'off', 'unmap'],
    ['on', 'on', 'unmap'],
    ['unmap', 'unmap', 'unmap'],
  ]) {
    await s.image(name!, { format: 'qcow2', size: '4M' });
    const options = { 'detect-zeroes': detect, discard };
    await s.add({ driver: 'qcow2', 'node-name': name, ...options, file: file(s, name!) });
    await s.io(name!, 'write -P 5 0 1M', 'write -P 0 0 512k', 'write -P 0 2M 64k', 'read -P 0 0 512k');
    await s.map(`guest-${name}`);
  }
  const refused = { driver: 'null-co', 'node-name': 'null', 'detect-zeroes': 'unmap' };
  await s.refused('blockdev-add', refused);
  await s.refused('blockdev-add', { ...refused, discard: 'ignore' });
});

scenario('DR-04', 'discards are dropped or passed on', async s => {
  for (const discard of ['ignore', 'unmap']) {
    await s.image(discard, { format: 'qcow2', size: '4M' });
    await s.add({ driver: 'qcow2', 'node-name': discard, discard, file: file(s, discard) });
    await s.io(discard, 'write -P 5 0 1M', 'discard 0 512k', 'write -z -u 512k 256k', 'write -z 768k 64k');
    await s.map(`guest-${discard}`);
    await s.io(discard, 'read -P 5 832k 192k', 'read -P 0 512k 320k');
  }
});

scenario('DR-05', 'blkdebug fails a request once, or always, by kind, place and state', async s => {
  await s.image('disk', { format: 'raw', size: '4M' });
  await s.add({
    driver: 'raw',
    'node-name': 'disk',
    file: {
      driver: 'blkdebug',
      image: file(s, 'disk'),
      'inject-error': [
        { event: 'read_aio', errno: 5, once: true, state: 2 },
        { event: 'none', iotype: 'write', errno: 28, sector: 2048 },
        { event: 'none', iotype: 'discard', errno: 95 },
        { event: 'none', iotype: 'write-zeroes', errno: 1, sector: 4096 },
      ],
      'set-state': [{ event: 'flush_to_disk', state: 1, new_state: 2 }],
    },
  });
  await s.io('disk', 'read 0 64k', 'write -P 1 0 64k', 'write -P 1 1M 64k', 'write -P 1 1020k 16k');
  await s.io('disk', 'flush', 'read 0 64k');
  // QEMU's server drops a client whose read has failed.
  await s.closeGuest('disk');
  await s.io('disk', 'read 0 64k', 'write -z 2M 64k', 'write -z 3M 64k');
});

scenario('DR-06', 'blkdebug refuses what cannot be', async s => {
  await rawDisk(s);
  const debug = { driver: 'blkdebug', 'node-name': 'debug', image: 'disk' };
  await s.refused('blockdev-add', { ...debug, align: 3 });
  await s.refused('blockdev-add', { ...debug, align: 4096, 'max-transfer': 512 });
  await s.refused('blockdev-add', { ...debug, 'inject-error': [{ event: 'never' }] });
  await s.refused('blockdev-add', { ...debug, 'set-state': [{ event: 'read_aio' }] });
  await s.refused('blockdev-add', { ...debug, image: undefined });
  await s.add({ ...debug, align: 4096 });
  await s.io('debug', 'write -P 3 0 4k', 'write -P 4 512 512', 'read -P 3 0 512', 'read -P 4 512 512');
});

scenario('DR-07', 'throttle groups: limits that contradict each other, members, new limits', async s => {
  const group = (limits: object) => ({ 'qom-type': 'throttle-group', id: 'group', limits });
  await s.refused('object-add', group({ 'bps-total': 1000, 'bps-read': 5 }));
  await s.refused('object-add', group({ 'iops-total': 1000, 'iops-write-max': 5 }));
  await s.refused('object-add', group({ 'bps-total': 1000, 'bps-total-max': 5 }));
  await s.refused('object-add', group({ 'bps-total-max': 5 }));
  await s.refused('object-add', group({ 'bps-total': 1000, 'bps-total-max-length': 5 }));
  await s.refused('object-add', group({ 'bps-total': -5 }));
  await s.refused('object-add', group({ nonsense: 1 }));
  await s.refused('object-add', { 'qom-type': 'nonsense', id: 'group' });
  await s.refused('object-add', { 'qom-type': 'throttle-group', id: '1group' });
  await s.ok('object-add', group({ 'bps-total': 64 * MiB }));
  await s.refused('object-add', group({}));
  await s.ok('qom-get', { path: 'group', property: 'limits' });
  await s.ok('qom-set', { path: 'group', property: 'limits', value: { 'iops-total': 5000 } });
  await s.ok('qom-get', { path: 'group', property: 'limits' });
  await s.refused('qom-get', { path: 'nobody', property: 'limits' });
  await rawDisk(s);
  await s.refused('blockdev-add', { driver: 'throttle', 'node-name': 't', file: 'disk' });
  await s.refused('blockdev-add', {
    driver: 'throttle',
    'node-name': 't',
    file: 'disk',
    'throttle-group': 'x',
  });
  await s.add({ driver: 'throttle', 'node-name': 't', file: 'disk', 'throttle-group': 'group' });
  await s.io('t', 'write -P 1 0 64k', 'read -P 1 0 64k');
  await s.refused('object-del', { id: 'group' });
  await s.closeGuest('t');
  await s.ok('blockdev-del', { 'node-name': 't' });
  await s.ok('object-del', { id: 'group' });
  await s.refused('object-del', { id: 'group' });
});

scenario('DR-07v', 'limits that are out of range, or lack what they need', async s => {
  for (const limits of [
    { 'iops-size': 1024 },
    { 'iops-size': 1024, 'bps-total': 5 },
    { 'bps-total': 1e15 + 1 },
    { 'bps-total': 1000, 'bps-total-max': 2000, 'bps-total-max-length': 2 ** 32 },
    { 'iops-read': 1, 'iops-total': 1, 'iops-size': 1, 'iops-read-max': -1 },
    { 'bps-read-max-length': 0, 'iops-size': 1 },
  ]) {
    await s.refused('object-add', { 'qom-type': 'throttle-group', id: 'group', limits });
  }
  const limits = { 'iops-size': 1024, 'iops-read': 7 };
  await s.ok('object-add', { 'qom-type': 'throttle-group', id: 'group', limits });
  await s.ok('qom-get', { path: 'group', property: 'limits' });
  await s.refused('qom-set', { path: 'group', property: 'limits', value: { 'iops-read': 0 } });
  await s.ok('qom-get', { path: 'group', property: 'limits' });
});

scenario('DR-08', 'a throttled request waits for the excess of the one before', async s => {
  await s.ok('object-add', {
    'qom-type': 'throttle-group',
    id: 'group',
    limits: { 'bps-write': 512 * 1024 },
  });
  await s.add({ driver: 'null-co', 'node-name': 'null', size: 64 * MiB });
  await s.add({ driver: 'throttle', 'node-name': 't', file: 'null', 'throttle-group': 'group' });
  await s.guest('t');
  const times: number[] = [];
  for (let round = 0; round < 3; round++) {
    const before = performance.now();
    await s.io('t', 'write 0 512k');
    times.push(performance.now() - before);
  }
  expect(times[0]).toBeLessThan(500);
  expect(times[1]).toBeGreaterThan(500);
  expect(times[2]).toBeGreaterThan(500);
});

scenario('DR-09', 'compress stores what is written through it compressed', async s => {
  await s.image('disk', { format: 'qcow2', size: '4M' });
  await s.add({
    driver: 'compress',
    'node-name': 'packed',
    file: { driver: 'qcow2', file: file(s, 'disk') },
  });
  await s.io('packed', 'write -P 9 0 64k', 'read -P 9 0 64k', 'write -P 8 64k 64k', 'read -P 8 64k 64k');
  await s.closeGuest('packed');
  await s.ok('blockdev-del', { 'node-name': 'packed' });
  const { stdout } = await s.peek('qemu-img', 'check', '--output=json', s.path('disk'));
  expect(JSON.parse(stdout)['compressed-clusters']).toBeGreaterThan(0);
  const checked = await s.tool('qemu-img', 'check', '-q', s.path('disk'));
  expect(checked.code).toBe(0);
});

scenario('DR-10', 'compress refuses a disk that cannot', async s => {
  await rawDisk(s);
  await s.refused('blockdev-add', { driver: 'compress', 'node-name': 'packed', file: 'disk' });
});

scenario('DR-11', 'cache modes are taken and shown', async s => {
  await s.image('disk', { format: 'raw', size: '4M' });
  const cache = { 'no-flush': true };
  await s.add({ driver: 'raw', 'node-name': 'disk', cache, file: file(s, 'disk') });
  await s.io('disk', 'write -P 2 0 64k', 'flush', 'read -P 2 0 64k');
  await s.refused('blockdev-add', { driver: 'null-co', 'node-name': 'n', cache: { direct: 'x' } });
  await s.qmp('query-named-block-nodes');
});

/** Undefined where it was closed meanwhile. */
function linkOf(path: string): string | undefined {
  try {
    return fs.readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** For each descriptor that the daemon has open for the file: whether it goes past the page cache. */
function directDescriptors(s: Session, name: string): boolean[] {
  const folder = `/proc/${s.daemon.pid}`;
  const path = fs.realpathSync(s.path(name));
  const open = fs.readdirSync(`${folder}/fd`).filter(fd => linkOf(`${folder}/fd/${fd}`) === path);
  const flags = open.map(fd => /flags:\s+(\d+)/.exec(fs.readFileSync(`${folder}/fdinfo/${fd}`, 'utf8'))![1]!);
  return flags.map(octal => (Number.parseInt(octal, 8) & fs.constants.O_DIRECT) !== 0);
}

/** The old one may be closed a moment later. */
function onlyDescriptor(s: Session, name: string, direct: boolean): Promise<void> {
  return s.until(`one descriptor, direct: ${direct}`, async () => {
    const found = directDescriptors(s, name);
    return found.length === 1 && found[0] === direct;
  });
}

scenario('DR-12', 'cache.direct goes past the page cache, at any alignment of requests', async s => {
  await s.image('disk', { format: 'raw', size: '4M' });
  const direct = { cache: { direct: true } };
  const raw = { driver: 'raw', 'node-name': 'disk' };
  await s.add({ ...raw, ...direct, file: file(s, 'disk') });
  expect(directDescriptors(s, 'disk')).toEqual([true]);
  await s.io('disk', 'write -P 2 0 3M', 'write -P 3 512 512', 'write -P 4 1M 4096', 'write -z 2M 1536');
  await s.io('disk', 'discard 3M 64k', 'flush', 'read -P 2 1024 1000k', 'read -P 3 512 512');
  await s.qmp('query-named-block-nodes');
  const reopen = (...options: object[]) => s.qmp('blockdev-reopen', { options });
  await reopen({ ...raw, file: file(s, 'disk') });
  await onlyDescriptor(s, 'disk', false);
  await s.io('disk', 'read -P 4 1M 4096', 'write -P 5 0 512');
  await reopen({ ...raw, ...direct, file: file(s, 'disk') });
  await onlyDescriptor(s, 'disk', true);
  await s.io('disk', 'read -P 5 0 512', 'read -P 3 512 512', 'write -P 6 3M 1M');
  await s.closeGuest('disk');
  await s.ok('blockdev-del', { 'node-name': 'disk' });
  const data = fs.readFileSync(s.path('disk'));
  s.note('contents', createHash('sha256').update(data).digest('hex'));
});

scenario('DR-13', 'qcow2 past the page cache; native I/O wants it', async s => {
  await s.image('disk', { format: 'qcow2', size: '4M' });
  await s.add({ driver: 'qcow2', 'node-name': 'disk', cache: { direct: true }, file: file(s, 'disk') });
  expect(directDescriptors(s, 'disk')).toEqual([true]);
  await s.io('disk', 'write -P 2 100k 1M', 'write -P 3 65536 512', 'flush', 'read -P 2 101k 512');
  await s.io('disk', 'write -z 512k 64k', 'read -P 0 512k 64k', 'read -P 0 3M 1M');
  await s.closeGuest('disk');
  await s.ok('blockdev-del', { 'node-name': 'disk' });
  expect((await s.tool('qemu-img', 'check', '-q', s.path('disk'))).code).toBe(0);
  await s.refused('blockdev-add', { 'node-name': 'n', aio: 'native', ...file(s, 'disk') });
});
