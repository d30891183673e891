// Who may use a block node together with whom: each refusal names both users.
import { expect } from 'vitest';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const file = (s: Session, name: string, more: object = {}) => ({
  driver: 'file',
  filename: s.path(name),
  ...more,
});

async function addExport(s: Session, node: string, id: string, writable: boolean) {
  await s.nbdSocket();
  return s.qmp('block-export-add', { type: 'nbd', id, name: id, 'node-name': node, writable });
}

async function removeExport(s: Session, id: string): Promise<void> {
  await s.ok('block-export-del', { id });
  await s.event('BLOCK_EXPORT_DELETED', { id });
}

const refuse = async (s: Session, options: object) => (await s.refused('blockdev-add', options)).desc;

scenario('PM-01', 'an image has one writer, and nobody looks at its file meanwhile', async s => {
  await s.image('image', { format: 'qcow2', size: '1M' });
  await s.add({ ...file(s, 'image'), 'node-name': 'f' });
  await s.add({ driver: 'qcow2', 'node-name': 'one', file: 'f' });
  const two = { driver: 'qcow2', 'node-name': 'two', file: 'f' };
  expect(await refuse(s, two)).toBe(
    "Permission conflict on node 'f': permissions 'write, resize' are both required by node 'one' " +
      "(uses node 'f' as 'file' child) and unshared by node 'two' (uses node 'f' as 'file' child).",
  );
  await refuse(s, { ...two, 'read-only': true });
  expect((await addExport(s, 'f', 'e', true)).error?.desc).toMatch(/'write' are both required by an unnamed/);
  expect((await addExport(s, 'f', 'e', false)).error?.desc).toMatch(
    /'resize' are both required by node 'one'/,
  );
  await s.add({ driver: 'raw', 'node-name': 'looker', file: 'f', 'read-only': true });
  expect((await addExport(s, 'looker', 'e', false)).error).toBeDefined();
  await s.add({ driver: 'raw', 'node-name': 'sharer', file: 'f', 'read-only': true, 'force-share': true });
  await addExport(s, 'sharer', 'e', false);
  await s.ok('query-block-exports');
  await s.io('one', 'write -P 1 0 64k', 'read -P 1 0 64k');
});

scenario('PM-02', 'a disk may have many writers that know of one another', async s => {
  await s.image('disk', { format: 'raw', size: '1M' });
  await s.add({ ...file(s, 'disk'), 'node-name': 'f' });
  for (const name of ['a', 'b']) await s.add({ driver: 'raw', 'node-name': name, file: 'f' });
  for (const name of ['a', 'b']) {
    expect((await addExport(s, name, `one-${name}`, true)).error).toBeUndefined();
    expect((await addExport(s, name, `two-${name}`, true)).error).toBeUndefined();
  }
});

scenario('PM-03', 'a read-only node has no writers, whoever asks', async s => {
  await s.image('disk', { format: 'raw', size: '1M' });
  await s.image('image', { format: 'qcow2', size: '1M' });
  await s.add({ ...file(s, 'disk', { 'read-only': true }), 'node-name': 'ro' });
  await s.add({ ...file(s, 'image', { 'read-only': true }), 'node-name': 'image-ro' });
  await s.add({ driver: 'raw', 'node-name': 'rw', file: 'ro' });
  await addExport(s, 'ro', 'a', true);
  await addExport(s, 'rw', 'b', true);
  expect(await refuse(s, { driver: 'qcow2', 'node-name': 'q', file: 'image-ro' })).toBe(
    'Block node is read-only',
  );
  await refuse(s, { driver: 'qcow2', 'node-name': 'q', file: 'image-ro', 'auto-read-only': true });
  await s.add({ driver: 'qcow2', 'node-name': 'q', file: 'image-ro', 'read-only': true });
  await addExport(s, 'q', 'c', true);
  await addExport(s, 'q', 'd', false);
  const auto = { 'node-name': 'auto', 'auto-read-only': true };
  await s.add({ driver: 'qcow2', file: file(s, 'image', { 'read-only': true }), ...auto, 'read-only': true });
  await s.ok('query-named-block-nodes', { flat: true });
});

scenario('BK-V13', 'nobody writes to a source past the filter that keeps its moment', async s => {
  for (const name of ['disk', 'target']) await s.image(name, { format: 'raw', size: '1M' });
  for (const name of ['disk', 'target']) await s.add({ ...file(s, name), 'node-name': name });
  await s.add({ driver: 'copy-before-write', 'node-name': 'cbw', file: 'disk', target: 'target' });
  await addExport(s, 'disk', 'writer', true);
  expect((await addExport(s, 'cbw', 'guest', false)).error?.desc).toBe(
    "Permission conflict on node 'disk': permissions 'write' are both required by an unnamed block device " +
      "(uses node 'disk' as 'root' child) and unshared by node 'cbw' (uses node 'disk' as 'file' child).",
  );
  await removeExport(s, 'writer');
  expect((await addExport(s, 'cbw', 'guest', true)).error).toBeUndefined();
  expect((await addExport(s, 'disk', 'writer', true)).error?.desc).toMatch(/unshared by node 'cbw'/);
  expect((await addExport(s, 'disk', 'reader', false)).error).toBeUndefined();
  expect((await addExport(s, 'target', 'other', true)).error).toBeUndefined();
});

scenario('PM-04', 'a backup is refused where another writer would pass its filter by', async s => {
  for (const name of ['disk', 'target']) await s.image(name, { format: 'raw', size: '1M' });
  for (const name of ['disk', 'target']) await s.add({ ...file(s, name), 'node-name': name });
  const backup = { 'job-id': 'j', device: 'above', target: 'target', sync: 'none' };
  for (const name of ['above', 'other']) await s.add({ driver: 'raw', 'node-name': name, file: 'disk' });
  await addExport(s, 'other', 'e', true);
  await addExport(s, 'above', 'reader', false);
  await s.refused('blockdev-backup', backup);
  await removeExport(s, 'reader');
  const refused = await s.refused('blockdev-backup', backup);
  expect(refused.desc).toMatch(/by node 'other' .* and unshared by node 'above'/);
  await removeExport(s, 'e');
  await s.ok('blockdev-backup', backup);
  await s.refused('blockdev-backup', { ...backup, 'job-id': 'k' });
  await addExport(s, 'other', 'e', true);
  await addExport(s, 'above', 'guest', true);
  await s.refused('block_resize', { 'node-name': 'target', size: 65536 });
  await s.ok('block-job-cancel', { device: 'j' });
  await s.jobState('j', 'null');
  await s.ok('blockdev-backup', { ...backup, device: 'disk' });
  expect((await addExport(s, 'disk', 'e', true)).error?.desc).toMatch(/unshared by node/);
  await s.ok('block-job-cancel', { device: 'j' });
  await s.jobState('j', 'null');
  expect((await addExport(s, 'disk', 'e', true)).error).toBeUndefined();
});

scenario('PM-05', 'other processes are kept out, and keep us out, by locks on the file', async s => {
  await s.image('image', { format: 'qcow2', size: '1M' });
  const io = (...more: string[]) =>
    s.tool('qemu-io', '-f', 'qcow2', ...more, '-c', 'read -q 0 4k', s.path('image'));
  const image = { driver: 'qcow2', 'node-name': 'q', file: file(s, 'image') };
  await s.add(image);
  expect((await io()).stderr).toMatch(/Failed to get "write" lock/);
  expect((await io('-r')).stderr).toMatch(/Failed to get shared "write" lock/);
  expect((await io('-r', '-U')).code).toBe(0);
  expect(await refuse(s, { ...image, 'node-name': 'again' })).toBe('Failed to get "write" lock');
  expect(await refuse(s, { ...image, 'node-name': 'again', 'read-only': true })).toBe(
    'Failed to get shared "write" lock',
  );
  await s.add({ ...image, 'node-name': 'looker', 'read-only': true, 'force-share': true });
  await s.ok('blockdev-del', { 'node-name': 'looker' });
  await s.ok('blockdev-del', { 'node-name': 'q' });
  expect((await io()).code).toBe(0);
  await s.add({ ...image, 'read-only': true });
  expect((await io('-r')).code).toBe(0);
  expect((await io()).stderr).toMatch(/Failed to get "write" lock/);
  await s.ok('blockdev-del', { 'node-name': 'q' });
  await s.add({ ...image, file: file(s, 'image', { locking: 'off' }) });
  expect((await io()).code).toBe(0);
});
