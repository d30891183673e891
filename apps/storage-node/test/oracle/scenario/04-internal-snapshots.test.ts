// Internal snapshots: taken at one instant, alone and in transactions, and deleted; the image stays clean.
import { expect } from 'vitest';
import { ABORT, bitmapAction } from '../backup-chain.ts';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';
import { addQcow2, addRaw, disks, refuse } from '../snapshots.ts';

const TAKE = 'blockdev-snapshot-internal-sync';
const DELETE = 'blockdev-snapshot-delete-internal-sync';
const take = (device: string, name: string) => ({ type: TAKE, data: { device, name } });

interface Listed {
  readonly 'node-name': string;
  readonly image: { readonly snapshots?: Record<string, unknown>[] };
}

/** Traced, but for times. */
async function list(s: Session): Promise<void> {
  const nodes = await s.ask<Listed[]>('query-named-block-nodes');
  for (const { 'node-name': name, image } of nodes) {
    if (image.snapshots !== undefined) s.note(`snapshots of ${name}`, image.snapshots.map(timeless));
  }
}

function timeless(snapshot: Record<string, unknown>): object {
  return Object.fromEntries(Object.entries(snapshot).filter(([key]) => !/^(date|vm-clock)-/.test(key)));
}

async function remove(s: Session, args: object): Promise<void> {
  const { return: removed, error } = await s.daemon.qmp.execute(DELETE, args);
  s.note(`${DELETE} ${JSON.stringify(args)}`, error ?? timeless(removed as Record<string, unknown>));
}

scenario('SI-01', 'snapshots keep what a guest wrote, and go when they are deleted', async s => {
  await disks(s);
  await s.io('q', 'write -P 1 0 1M');
  await s.ok(TAKE, { device: 'q', name: 'one' });
  await s.io('q', 'write -P 2 512k 1M', 'read -P 1 0 512k', 'read -P 2 512k 1M');
  await s.ok(TAKE, { device: 'q', name: 'two' });
  await list(s);
  await s.io('q', 'write -z 0 64k', 'discard 1M 64k', 'flush');
  await remove(s, { device: 'q', name: 'two' });
  await s.io('q', 'read -P 0 0 64k', 'read -P 1 64k 448k', 'flush');
  await list(s);
  await s.daemon.quit();
  await s.tool('qemu-img', 'check', '-q', s.path('q'));
  await s.tool('qemu-img', 'snapshot', '-a', 'one', s.path('q'));
  await s.tool(
    'qemu-io',
    '-r',
    '-f',
    'qcow2',
    '-c',
    'read -q -P 1 0 1M',
    '-c',
    'read -q -P 0 1M 3M',
    s.path('q'),
  );
});

scenario('SI-02', 'what cannot be taken or deleted is refused', async s => {
  await disks(s);
  await s.add({ driver: 'raw', 'node-name': 'above', file: 'o' });
  await addQcow2(s, 'o2', { 'read-only': true });
  await s.ok(TAKE, { device: 'q', name: 'one' });
  await s.ok(TAKE, { device: 'q', name: '1' });
  for (const args of [
    { device: 'x', name: 's' },
    { device: 'd', name: 's' },
    { device: 'd', name: '' },
    { device: 'q', name: '' },
    { device: 'q', name: 'one' },
    { device: 'o', name: 's' },
    { device: 'o2', name: 's' },
    { device: 'q' },
  ]) {
    await refuse(s, TAKE, args);
  }
  for (const args of [
    { device: 'q' },
    { device: 'x', name: 's' },
    { device: 'q', name: 'nope' },
    { device: 'q', id: '77' },
    { device: 'q', id: '1', name: '1' },
    { device: 'd', name: 's' },
    { device: 'o', name: 's' },
    { device: 'q', id: '', name: '' },
  ]) {
    await refuse(s, DELETE, args);
  }
  await s.ok(TAKE, { device: 'above', name: 'through' });
  await list(s);
  await remove(s, { device: 'q', id: '1', name: 'one' });
  await remove(s, { device: 'q', id: '2' });
  await remove(s, { device: 'above', name: 'through' });
  await list(s);
});

scenario('SI-03', 'a transaction takes all of its snapshots or none', async s => {
  await disks(s);
  await s.ok('block-dirty-bitmap-add', { node: 'q', name: 'b' });
  await s.io('q', 'write -P 1 0 1M');
  await s.io('o', 'write -P 1 0 1M');
  const refuseAll = (...actions: object[]) => refuse(s, 'transaction', { actions });
  await refuseAll(take('q', 'one'), ABORT);
  await refuseAll(take('q', 'one'), take('q', 'one'));
  await refuseAll(take('q', 'one'), take('d', 'one'));
  await refuseAll(bitmapAction('clear', { node: 'q', name: 'b' }), take('q', ''));
  await refuse(s, 'transaction', {
    actions: [take('q', 'one')],
    properties: { 'completion-mode': 'grouped' },
  });
  await list(s);
  await s.bitmaps('q');
  const actions = [
    take('q', 'one'),
    take('o', 'one'),
    bitmapAction('clear', { node: 'q', name: 'b' }),
    take('q', 'two'),
  ];
  await s.ok('transaction', { actions });
  await list(s);
  await s.bitmaps('q');
  await s.io('q', 'write -P 2 0 64k', 'read -P 1 64k 960k');
  await s.io('o', 'write -P 2 0 64k', 'read -P 1 64k 960k');
  await s.daemon.quit();
  for (const name of ['q', 'o']) {
    await s.tool('qemu-img', 'check', '-q', s.path(name));
    await s.tool('qemu-img', 'snapshot', '-a', 'one', s.path(name));
    await s.tool('qemu-io', '-r', '-f', 'qcow2', '-c', 'read -q -P 1 0 1M', s.path(name));
  }
});

scenario(
  'SI-04',
  'no snapshot is taken while a job stands above, and an image keeps it with its bitmaps',
  async s => {
    await disks(s);
    await s.image('t', { format: 'raw', size: '4M' });
    await addRaw(s, 't');
    await s.ok('block-dirty-bitmap-add', { node: 'q', name: 'kept', persistent: true });
    await s.io('q', 'write -P 1 0 64k');
    await s.ok('blockdev-backup', { 'job-id': 'j', device: 'q', target: 't', sync: 'none' });
    expect(await refuse(s, TAKE, { device: 'q', name: 'one' })).toBe('Need a root block node');
    await refuse(s, DELETE, { device: 'q', name: 'one' });
    await s.ok('block-job-cancel', { device: 'j' });
    await s.jobState('j', 'null');
    await s.ok(TAKE, { device: 'q', name: 'one' });
    await s.io('q', 'write -P 2 64k 64k');
    await s.bitmaps('q');
    await list(s);
    await s.daemon.quit();
    await s.tool('qemu-img', 'check', '-q', s.path('q'));
    await s.tool('qemu-img', 'bitmap', '--remove', s.path('q'), 'kept');
  },
);
