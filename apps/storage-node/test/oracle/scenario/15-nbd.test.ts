// The NBD server: exports come and go, several bitmaps of one export, what clients are told and refused.
import { expect } from 'vitest';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const MiB = 1 << 20;

const addExport = (id: string, more: object = {}) => ({ type: 'nbd', id, 'node-name': 'disk', ...more });

/** 4 MiB in clusters of 4 KiB; 0x11 at [1M, 3M); a bitmap `b` of 64 KiB and `b2` of 512 bytes. */
async function newDisk(s: Session): Promise<void> {
  await s.image('disk', { format: 'qcow2', size: '4M', options: 'cluster_size=4k' });
  const file = { driver: 'file', filename: s.path('disk') };
  await s.add({ driver: 'qcow2', 'node-name': 'disk', discard: 'unmap', file });
  await s.io('disk', 'write -P 0x11 1M 2M');
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'b', granularity: 65536 });
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'b2', granularity: 512 });
  await s.io('disk', 'write -P 0x22 512 512', 'write -P 0x33 2M 2M');
  await s.closeGuest('disk');
  await s.ok('block-dirty-bitmap-disable', { node: 'disk', name: 'b' });
}

/** All that a client is told of all exports: names, sizes, flags, block sizes, contexts. */
async function list(s: Session): Promise<unknown> {
  const { stdout } = await s.peek('nbdinfo', '--json', '--list', await s.nbdUri(''));
  const { exports } = JSON.parse(stdout) as { exports: Record<string, unknown>[] };
  const told = exports
    .map(one => ({ ...one, contexts: (one.contexts as string[]).toSorted() }))
    .toSorted((one, other) => String(nameOf(one)).localeCompare(String(nameOf(other))));
  s.note('exports', told);
  return told;
}

const nameOf = (told: Record<string, unknown>) => told['export-name'];

scenario(
  'NB-01',
  'exports of one disk with different bitmaps, added, listed, mapped and removed',
  async s => {
    await newDisk(s);
    await s.ok('nbd-server-stop');
    await s.refused('block-export-add', addExport('n'));
    await s.refused('nbd-server-stop');
    await s.restartNbdServer();
    await s.refused('nbd-server-start', { addr: { type: 'unix', data: { path: s.path('other') } } });
    await list(s);
    await s.ok('block-export-add', addExport('n', { name: 'n', bitmaps: ['b'] }));
    await s.refused('block-export-add', addExport('x', { 'node-name': 'nobody' }));
    await s.refused('block-export-add', addExport('n'));
    await s.refused('block-export-add', addExport('n2', { name: 'n2', bitmaps: ['b2'] }));
    await s.refused('block-export-add', addExport('n2', { name: 'n2', bitmaps: ['b3'] }));
    const second = { name: 'n2', bitmaps: ['b2'], writable: true, description: 'some text' };
    await s.ok('block-export-add', addExport('n2', second));
    await list(s);
    expect(await s.map('n')).toEqual([
      [0, 4096, 0],
      [4096, MiB - 4096, 3],
      [MiB, 3 * MiB, 0],
    ]);
    expect(await s.map('n', 'qemu:dirty-bitmap:b')).toEqual([
      [0, 65536, 1],
      [65536, 2 * MiB - 65536, 0],
      [2 * MiB, 2 * MiB, 1],
    ]);
    expect(await s.map('n2', 'qemu:dirty-bitmap:b2')).toEqual([
      [0, 512, 0],
      [512, 512, 1],
      [1024, 2 * MiB - 1024, 0],
      [2 * MiB, 2 * MiB, 1],
    ]);
    await s.ok('query-block-exports');
    await s.ok('block-export-del', { id: 'n', mode: 'hard' });
    await s.event('BLOCK_EXPORT_DELETED', { id: 'n' });
    await s.ok('block-export-del', { id: 'n2', mode: 'hard' });
    await s.event('BLOCK_EXPORT_DELETED', { id: 'n2' });
    await s.refused('block-export-del', { id: 'n2' });
    await s.bitmaps('disk');
    await s.ok('nbd-server-stop');
    await s.refused('nbd-server-stop');
  },
);

scenario('NB-01o', 'the older commands: an export is named like its disk, or as is asked', async s => {
  await newDisk(s);
  await s.refused('nbd-server-add', { device: 'nobody' });
  await s.ok('nbd-server-add', { device: 'disk', bitmap: 'b' });
  await s.refused('nbd-server-add', { device: 'disk' });
  await s.ok('nbd-server-add', { device: 'disk', name: 'again', writable: true, description: 'twice' });
  await list(s);
  await s.refused('nbd-server-remove', { name: 'nobody' });
  await s.refused('nbd-server-remove', { name: 'disk', mode: 'gently' });
  await s.ok('nbd-server-remove', { name: 'disk' });
  await s.ok('nbd-server-remove', { name: 'again', mode: 'hard' });
  await s.refused('nbd-server-remove', { name: 'again' });
});

scenario('NB-02', 'the depth at which a range is allocated', async s => {
  await s.image('base', { format: 'qcow2', size: '4M' });
  await s.peek('qemu-io', '-f', 'qcow2', '-c', 'write 0 2M', s.path('base'));
  await s.image('disk', { format: 'qcow2', size: '4M', backing: 'base' });
  const file = { driver: 'file', filename: s.path('disk') };
  await s.add({ driver: 'qcow2', 'node-name': 'disk', file });
  await s.io('disk', 'write 1M 2M');
  await s.closeGuest('disk');
  await s.ok('block-export-add', addExport('deep', { name: 'deep', 'allocation-depth': true }));
  expect(await s.map('deep', 'qemu:allocation-depth')).toEqual([
    [0, MiB, 2],
    [MiB, 2 * MiB, 1],
    [3 * MiB, MiB, 0],
  ]);
  await s.ok('block-export-add', addExport('flat', { name: 'flat' }));
  await list(s);
});

scenario('NB-03', 'several bitmaps of one export, of its disk and of another node', async s => {
  await newDisk(s);
  await s.ok('block-dirty-bitmap-disable', { node: 'disk', name: 'b2' });
  const bitmaps = ['b', { node: 'disk', name: 'b2' }];
  await s.ok('block-export-add', addExport('two', { name: 'two', bitmaps }));
  await list(s);
  await s.map('two', 'qemu:dirty-bitmap:b');
  await s.map('two', 'qemu:dirty-bitmap:b2');
  await s.refused(
    'block-export-add',
    addExport('x', { name: 'x', bitmaps: [{ node: 'disk', name: 'none' }] }),
  );
  await s.refused(
    'block-export-add',
    addExport('x', { name: 'x', bitmaps: [{ node: 'nobody', name: 'b' }] }),
  );
});

scenario('NB-04', 'a bitmap that an export shows is busy until the export has gone', async s => {
  await newDisk(s);
  await s.ok('block-export-add', addExport('n', { name: 'n', bitmaps: ['b'] }));
  const bitmap = { node: 'disk', name: 'b' };
  for (const verb of ['remove', 'clear', 'enable', 'disable']) {
    await s.refused(`block-dirty-bitmap-${verb}`, bitmap);
  }
  await s.refused('block-export-add', addExport('m', { name: 'm', bitmaps: ['b'] }));
  await s.refused('blockdev-del', { 'node-name': 'disk' });
  await s.ok('block-export-del', { id: 'n' });
  await s.event('BLOCK_EXPORT_DELETED', { id: 'n' });
  await s.ok('block-dirty-bitmap-clear', bitmap);
  await s.ok('block-dirty-bitmap-remove', bitmap);
  await s.ok('blockdev-del', { 'node-name': 'disk' });
});

scenario('NB-05', 'names and descriptions have at most 4096 bytes, ids begin with a letter', async s => {
  await newDisk(s);
  await s.refused('block-export-add', addExport('n', { name: 'n'.repeat(4097) }));
  await s.refused('block-export-add', addExport('n', { name: 'n', description: 'd'.repeat(4097) }));
  await s.ok(
    'block-export-add',
    addExport('long', { name: 'n'.repeat(4096), description: 'd'.repeat(4096) }),
  );
  await s.refused('block-export-add', addExport('0', { name: 'x' }));
  await s.refused('block-export-add', addExport('', { name: 'x' }));
  await s.refused('block-export-add', addExport('x', { name: 'n'.repeat(4096) }));
  await s.refused('block-export-add', addExport('x', { type: 'nonsense' }));
  await s.refused('block-export-add', addExport('x', { bitmaps: 'b' }));
  await s.refused('block-export-add', addExport('x', { iothread: 'none' }));
  await s.ok('block-export-add', addExport('empty', { name: '' }));
});

scenario('NB-07', 'a connected client keeps an export from going gently', async s => {
  await newDisk(s);
  await s.io('disk', 'write -P 5 0 64k');
  await s.refused('block-export-del', { id: 'guest-disk' });
  await s.refused('block-export-del', { id: 'guest-disk', mode: 'safe' });
  await s.ok('query-block-exports');
  await s.ok('block-export-del', { id: 'guest-disk', mode: 'hard' });
  await s.event('BLOCK_EXPORT_DELETED', { id: 'guest-disk' });
  await s.ok('query-block-exports');
});

scenario('NB-08', 'a read-only disk is not exported writable; errors keep their kind', async s => {
  await s.image('disk', { format: 'raw', size: '4M' });
  const file = { driver: 'file', filename: s.path('disk') };
  await s.add({ driver: 'raw', 'node-name': 'ro', 'read-only': true, file });
  await s.nbdSocket();
  await s.refused('block-export-add', { type: 'nbd', id: 'x', 'node-name': 'ro', writable: true });
  await s.ok('nbd-server-add', { device: 'ro', writable: true });
  await list(s);
  for (const [name, errno] of [
    ['eio', 5],
    ['enospc', 28],
    ['eperm', 1],
  ] as const) {
    await s.image(name, { format: 'raw', size: '1M' });
    const image = { driver: 'file', filename: s.path(name) };
    const rules = [{ event: 'none', iotype: 'write', errno }];
    await s.add({ driver: 'blkdebug', 'node-name': name, image, 'inject-error': rules });
    await s.io(name, 'write 0 64k');
  }
});

scenario(
  'NB-13',
  'an export goes by the name of the filter above its disk, as long as there is one',
  async s => {
    for (const name of ['disk', 'target']) {
      await s.image(name, { format: 'raw', size: '1M' });
      await s.add({ driver: 'raw', 'node-name': name, file: { driver: 'file', filename: s.path(name) } });
    }
    await s.io('disk', 'write -P 1 0 64k');
    const backup = { 'job-id': 'j', device: 'disk', target: 'target', sync: 'none' };
    await s.ok('blockdev-backup', { ...backup, 'filter-node-name': 'filter' });
    expect(JSON.stringify(await s.ok('query-block-exports'))).toContain('"node-name":"filter"');
    await s.ok('job-cancel', { id: 'j' });
    await s.jobState('j', 'null');
    expect(JSON.stringify(await s.ok('query-block-exports'))).toContain('"node-name":"disk"');
  },
);

scenario('NB-14', 'an export that writes through flushes after every write', async s => {
  await s.image('disk', { format: 'raw', size: '1M' });
  const image = { driver: 'file', filename: s.path('disk') };
  const rules = [{ event: 'none', iotype: 'flush', errno: 5 }];
  await s.add({ driver: 'blkdebug', 'node-name': 'disk', image, 'inject-error': rules });
  await s.nbdSocket();
  for (const writethrough of [false, true]) {
    const id = `e${writethrough}`;
    const options = { type: 'nbd', id, 'node-name': 'disk', name: id, writable: true, writethrough };
    await s.ok('block-export-add', options);
    const written = await s.readExport(id, 'write -P 1 0 64k', 'write -z 64k 64k');
    expect(written.includes('failed')).toBe(writethrough);
  }
});

// EPERM to EOWNERDEAD; without those that say that a connection is lost, which are EIO to ours.
const ERRNOS = [-5, 0, 1, 4, 11, 12, 13, 16, 19, 22, 27, 28, 30, 61, 75, 95, 108, 110, 122, 130, 134, 99_999];

scenario('NB-08e', 'what errors of a disk a client is told', async s => {
  await s.image('disk', { format: 'raw', size: '1M' });
  const image = { driver: 'file', filename: s.path('disk') };
  for (const errno of ERRNOS) {
    const name = `e${errno}`.replace('-', 'm');
    const rules = [{ event: 'none', iotype: 'write', errno }];
    await s.add({ driver: 'blkdebug', 'node-name': name, image, 'inject-error': rules });
    await s.io(name, 'write 0 4k');
    await s.closeGuest(name);
    await s.ok('blockdev-del', { 'node-name': name });
  }
});

scenario('NB-15', 'which bitmaps an export may show that nobody writes through', async s => {
  const show = (id: string, node: string, bitmaps: string[], more: object = {}) =>
    s.qmp('block-export-add', { type: 'nbd', id, 'node-name': node, name: id, bitmaps, ...more });
  for (const [name, readOnly] of [
    ['ro', true],
    ['rw', false],
  ] as const) {
    await s.image(name, { format: 'raw', size: '1M' });
    const file = { driver: 'file', filename: s.path(name) };
    await s.add({ driver: 'raw', 'node-name': name, 'read-only': readOnly, file });
    for (const disabled of [false, true]) {
      await s.ok('block-dirty-bitmap-add', { node: name, name: `b${disabled}`, disabled });
    }
  }
  await s.nbdSocket();
  await show('e1', 'ro', ['bfalse']);
  await show('e2', 'ro', ['btrue', 'btrue']);
  await show('e3', 'ro', ['btrue', 'bfalse']);
  await show('e4', 'rw', ['btrue', 'bfalse']);
  await show('e5', 'rw', ['bfalse'], { writable: true });
  await show('e6', 'rw', ['bfalse']);
  await s.bitmaps('ro');
  await s.bitmaps('rw');
  await s.map('e1', 'qemu:dirty-bitmap:bfalse');
  await s.map('e2', 'qemu:dirty-bitmap:btrue');
  await s.refused('block-dirty-bitmap-clear', { node: 'ro', name: 'btrue' });
});
