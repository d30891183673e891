// Block nodes by the commands that add, remove and show them: which options are taken, which nodes there are
// afterwards, and every refusal in QEMU's words.
import { expect } from 'vitest';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

const query = (s: Session, flat = false) => s.ok('query-named-block-nodes', { flat });
const remove = (s: Session, name: string) => s.ok('blockdev-del', { 'node-name': name });
const refuseToRemove = async (s: Session, name: string) =>
  (await s.refused('blockdev-del', { 'node-name': name })).desc;
const refuse = async (s: Session, options: object) => (await s.refused('blockdev-add', options)).desc;
const file = (s: Session, name: string, more: object = {}) => ({
  driver: 'file',
  filename: s.path(name),
  ...more,
});

scenario('BG-01', 'names of block nodes are checked, and none is given twice', async s => {
  await s.image('disk', { format: 'raw', size: '1M' });
  for (const name of ['', '1st', 'a b', '#block001', 'ä', '-x', 'a/b']) {
    const error = await refuse(s, { ...file(s, 'disk'), 'node-name': name });
    expect(error).toBe(`Invalid node-name: '${name}'`);
  }
  await s.add({ ...file(s, 'disk'), 'node-name': 'a'.repeat(31) });
  expect(await refuse(s, { ...file(s, 'disk'), 'node-name': 'a'.repeat(32) })).toBe('Node name too long');
  await s.add({ ...file(s, 'disk'), 'node-name': 'Disk-0.x_y' });
  expect(await refuse(s, { ...file(s, 'disk'), 'node-name': 'Disk-0.x_y' })).toBe(
    "Duplicate nodes with node-name='Disk-0.x_y'",
  );
  expect(await refuse(s, file(s, 'disk'))).toBe("'node-name' must be specified for the root node");
  await query(s);
});

scenario('BG-02', 'options are checked before anything is opened', async s => {
  await s.image('disk', { format: 'raw', size: '1M' });
  await s.image('image', { format: 'qcow2', size: '1M' });
  const named = { 'node-name': 'n' };
  const wrong: object[] = [
    { ...named },
    { ...named, driver: 5 },
    { ...named, driver: 'no-such-driver' },
    { ...named, driver: 'file' },
    { ...named, driver: 'file', filename: 7 },
    { ...named, ...file(s, 'disk', { surprise: 1 }) },
    { ...named, ...file(s, 'disk', { 'read-only': 'yes' }) },
    { ...named, ...file(s, 'disk', { discard: 'maybe' }) },
    { ...named, ...file(s, 'disk', { cache: { direct: 5 } }) },
    { ...named, ...file(s, 'disk', { cache: { writeback: true } }) },
    { ...named, ...file(s, 'disk', { 'detect-zeroes': 'unmap' }) },
    { ...named, ...file(s, 'disk', { 'force-share': true }) },
    { ...named, driver: 'qcow2' },
    { ...named, driver: 'qcow2', file: 5 },
    { ...named, driver: 'qcow2', file: 'nobody' },
    { ...named, driver: 'qcow2', file: { driver: 'file' } },
    { ...named, driver: 'qcow2', file: file(s, 'image', { surprise: 1 }) },
    { ...named, driver: 'qcow2', file: file(s, 'disk') },
    { ...named, driver: 'qcow2', file: file(s, 'gone') },
    { ...named, driver: 'qcow2', file: file(s, 'image'), backing: 'nobody' },
    { ...named, driver: 'throttle', file: file(s, 'disk'), 'throttle-group': 'nobody' },
  ];
  for (const options of wrong) await s.refused('blockdev-add', options);
  expect(await query(s)).toEqual([]);
});

scenario('BG-03', 'a raw window lies in its file', async s => {
  await s.image('disk', { format: 'raw', size: '1M' });
  await s.add({ ...file(s, 'disk'), 'node-name': 'f' });
  const window = { driver: 'raw', 'node-name': 'w', file: 'f' };
  expect(await refuse(s, { ...window, offset: 2 * MiB })).toMatch(/cannot be greater than size/);
  expect(await refuse(s, { ...window, offset: 1 * MiB, size: 512 })).toMatch(/smaller or equal to the/);
  expect(await refuse(s, { ...window, size: 100 })).toBe('Specified size is not multiple of 512');
  expect(await refuse(s, { ...window, offset: -1 })).toMatch(/non-negative/);
  await s.add({ ...window, offset: 64 * KiB, size: 128 * KiB });
  await s.add({ ...window, 'node-name': 'rest', offset: 512 * KiB });
  await query(s);
  await s.io('w', 'write -P 0x11 0 64k', 'read -P 0x11 0 64k', 'read -P 0 64k 64k');
  await s.closeGuest('w');
  await s.io('f', 'read -P 0 0 64k', 'read -P 0x11 64k 64k', 'read -P 0 128k 64k');
});

scenario('BG-04', 'a file that is no multiple of a sector is shown with its last sector whole', async s => {
  await s.image('odd', { format: 'raw', size: '512' });
  await s.tool('truncate', '-s', '1000', s.path('odd'));
  await s.add({ driver: 'raw', 'node-name': 'odd', file: file(s, 'odd') });
  await query(s);
  await s.io('odd', 'read -P 0 0 1024', 'length');
});

scenario('BG-05', 'children that were made with their parent go with their last user', async s => {
  await s.image('image', { format: 'qcow2', size: '1M' });
  await s.add({
    driver: 'qcow2',
    'node-name': 'q',
    'read-only': true,
    file: file(s, 'image', { 'node-name': 'qf' }),
  });
  expect(await refuseToRemove(s, 'qf')).toBe('Node qf is not owned by the monitor');
  await s.add({ driver: 'raw', 'node-name': 'r', 'read-only': true, file: 'qf' });
  await remove(s, 'q');
  expect((await query(s)) as object[]).toHaveLength(2);
  expect(await refuseToRemove(s, 'qf')).toBe('Node qf is not owned by the monitor');
  await remove(s, 'r');
  expect(await query(s)).toEqual([]);
  expect(await refuseToRemove(s, 'qf')).toBe("Failed to find node with node-name='qf'");
});

scenario('BG-06', 'a node in use is not removed, and the reason is told for each kind of use', async s => {
  await s.image('base', { format: 'raw', size: '1M' });
  await s.image('over', { format: 'qcow2', backing: 'base', backingFormat: 'raw' });
  await s.image('target', { format: 'raw', size: '1M' });
  await s.add({ ...file(s, 'base'), 'node-name': 'base' });
  await s.add({ driver: 'qcow2', 'node-name': 'over', file: file(s, 'over'), backing: 'base' });
  expect(await refuseToRemove(s, 'base')).toBe("Node 'base' is busy: node is used as backing hd of 'over'");
  await s.add({ driver: 'raw', 'node-name': 'above', file: 'over' });
  expect(await refuseToRemove(s, 'over')).toBe('Block device over is in use');
  await s.io('over', 'read 0 64k');
  expect(await refuseToRemove(s, 'over')).toBe('Node over is in use');
  await s.add({ ...file(s, 'target'), 'node-name': 'target' });
  await s.ok('blockdev-backup', {
    'job-id': 'j',
    device: 'over',
    target: 'target',
    sync: 'none',
    'filter-node-name': 'cbw',
  });
  for (const name of ['target', 'over', 'base', 'cbw']) await refuseToRemove(s, name);
  await s.ok('block-job-cancel', { device: 'j' });
  await s.event('BLOCK_JOB_CANCELLED');
  await s.jobState('j', 'null');
  await remove(s, 'target');
  expect(await refuseToRemove(s, 'cbw')).toBe("Failed to find node with node-name='cbw'");
});

scenario('BG-07', 'the backing image is as given, as the header says, or none', async s => {
  await s.image('base', { format: 'qcow2', size: '1M' });
  await s.image('other', { format: 'qcow2', size: '1M' });
  await s.tool('qemu-io', '-f', 'qcow2', '-c', 'write -q -P 1 0 64k', s.path('base'));
  await s.tool('qemu-io', '-f', 'qcow2', '-c', 'write -q -P 2 0 64k', s.path('other'));
  await s.image('over', { format: 'qcow2', backing: 'base' });
  const over = { driver: 'qcow2', 'node-name': 'over', file: file(s, 'over') };
  const backing = { driver: 'qcow2', file: file(s, 'other') };
  await s.add({ ...backing, 'node-name': 'other', 'read-only': true });
  for (const [more, pattern] of [
    [{}, 1],
    [{ backing: null }, 0],
    [{ backing: '' }, 0],
    [{ backing: 'other' }, 2],
    [{ backing }, 2],
  ] as const) {
    await s.add({ ...over, ...more });
    await query(s);
    await query(s, true);
    await s.io('over', `read -P ${pattern} 0 64k`);
    await s.closeGuest('over');
    await remove(s, 'over');
  }
  await s.tool('mv', s.path('base'), s.path('moved'));
  await s.refused('blockdev-add', over);
  await s.refused('blockdev-add', { ...over, backing: 'nobody' });
  await query(s, true);
});

scenario('BG-08', 'what is shown of every driver, the youngest first', async s => {
  await s.image('disk', { format: 'raw', size: '1M' });
  await s.image('target', { format: 'raw', size: '1M' });
  await s.image('image', { format: 'qcow2', size: '1M', options: 'cluster_size=4k' });
  await s.ok('object-add', { 'qom-type': 'throttle-group', id: 'tg' });
  await s.add({ ...file(s, 'disk'), 'node-name': 'f' });
  await s.add({ ...file(s, 'target'), 'node-name': 't' });
  await s.add({ driver: 'raw', 'node-name': 'raw', file: 'f' });
  await s.add({ driver: 'raw', 'node-name': 'raw-raw', file: 'raw', 'detect-zeroes': 'on' });
  await s.add({ driver: 'null-co', 'node-name': 'null', size: 64 * KiB });
  await s.add({ driver: 'null-co', 'node-name': 'null-z', 'read-zeroes': true });
  await s.add({ driver: 'raw', 'node-name': 'raw-null', file: 'null' });
  await s.add({ driver: 'throttle', 'node-name': 'th', file: 'f', 'throttle-group': 'tg' });
  await s.add({ driver: 'blkdebug', 'node-name': 'bd', image: 'f' });
  await s.add({ driver: 'raw', 'node-name': 'raw-bd', file: 'bd' });
  await s.add({ driver: 'copy-before-write', 'node-name': 'cbw', file: 'f', target: 't' });
  await s.add({ driver: 'raw', 'node-name': 'raw-cbw', file: 'cbw' });
  const common = { discard: 'unmap', 'detect-zeroes': 'unmap', cache: { 'no-flush': true } };
  await s.add({ driver: 'qcow2', 'node-name': 'q', file: file(s, 'image'), ...common });
  await s.ok('block-dirty-bitmap-add', { node: 'q', name: 'b', disabled: true });
  await query(s);
  await query(s, true);
});

scenario('BG-09', 'everything that was written is in the images after the end', async s => {
  await s.image('base', { format: 'qcow2', size: '4M' });
  await s.image('over', { format: 'qcow2', backing: 'base' });
  await s.add({ driver: 'qcow2', 'node-name': 'base', file: file(s, 'base'), 'read-only': true });
  await s.add({ driver: 'qcow2', 'node-name': 'over', file: file(s, 'over'), backing: 'base' });
  await s.add({ driver: 'raw', 'node-name': 'top', file: 'over' });
  await s.io('top', 'write -P 1 0 1M', 'write -z 1M 64k', 'discard 2M 64k', 'write -P 2 3M 1M');
  await s.daemon.quit();
  for (const image of ['base', 'over']) {
    expect((await s.tool('qemu-img', 'check', '-q', s.path(image))).code).toBe(0);
  }
  const reads = ['read -q -P 1 0 1M', 'read -q -P 0 1M 2M', 'read -q -P 2 3M 1M'].flatMap(read => [
    '-c',
    read,
  ]);
  expect((await s.tool('qemu-io', '-r', ...reads, s.path('over'))).code).toBe(0);
});
