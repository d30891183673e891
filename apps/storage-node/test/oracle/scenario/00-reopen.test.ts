// Changing the options of block nodes in use: each is done or refused as a whole, while guests go on.
import { expect } from 'vitest';
import { qemuDies, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const KiB = 1024;

const reopen = (s: Session, ...options: object[]) => s.ok('blockdev-reopen', { options });
const refuse = async (s: Session, ...options: object[]) =>
  (await s.refused('blockdev-reopen', { options })).desc;
const query = (s: Session) => s.ok('query-named-block-nodes', { flat: true });
const file = (s: Session, name: string, more: object = {}) => ({
  driver: 'file',
  filename: s.path(name),
  ...more,
});

/** Two disks of 1 MiB, full of 1 and of 2, as nodes `one` and `two`, and `raw` over `one`. */
async function openDisks(s: Session) {
  for (const [index, name] of ['one', 'two'].entries()) {
    await s.image(name, { format: 'raw', size: '1M' });
    await s.tool('qemu-io', '-f', 'raw', '-c', `write -q -P ${index + 1} 0 1M`, s.path(name));
    await s.add({ ...file(s, name), 'node-name': name });
  }
  await s.add({ driver: 'raw', 'node-name': 'raw', file: 'one' });
}

const raw = { driver: 'raw', 'node-name': 'raw' };

scenario('RO-01', 'what cannot be changed is refused, and nothing has changed', async s => {
  await openDisks(s);
  await s.refused('blockdev-reopen', {});
  expect(await refuse(s, { driver: 'raw', file: 'one' })).toBe('node-name not specified');
  expect(await refuse(s, { ...raw, 'node-name': 'x', file: 'one' })).toBe(
    "Failed to find node with node-name='x'",
  );
  expect(await refuse(s, { ...raw, driver: 'qcow2', file: 'one' })).toBe("Cannot change the option 'driver'");
  expect(await refuse(s, raw)).toBe("Parameter 'options[0].file' is missing");
  expect(await refuse(s, { ...raw, file: 'raw' })).toBe(
    "Making 'raw' a file child of 'raw' would create a cycle",
  );
  expect(await refuse(s, { ...raw, file: 'x' })).toBe("Cannot find device='' nor node-name='x'");
  expect(await refuse(s, { ...raw, file: file(s, 'one') })).toBe("Cannot change the option 'file.driver'");
  expect(await refuse(s, { ...raw, file: 'one', size: 100 })).toBe('Specified size is not multiple of 512');
  const one = { 'node-name': 'one' };
  expect(await refuse(s, file(s, 'two', one))).toBe("Cannot change the option 'filename'");
  expect(await refuse(s, file(s, 'one', { ...one, locking: 'on' }))).toBe(
    "Cannot change the option 'locking'",
  );
  expect(await refuse(s, file(s, 'one', { ...one, 'force-share': true }))).toBe(
    "Cannot change the option 'force-share'",
  );
  await refuse(s, { ...raw, file: 'two' }, file(s, 'other', one));
  await s.io('raw', 'read -P 1 0 1M');
  await query(s);
});

scenario('RO-02', 'a node turns read-only and back while nobody writes', async s => {
  await openDisks(s);
  await reopen(s, { ...raw, file: 'one', 'read-only': true });
  await query(s);
  await s.nbdSocket();
  const guest = { type: 'nbd', id: 'e', name: 'e', 'node-name': 'raw', writable: true };
  await s.refused('block-export-add', guest);
  await reopen(s, { ...raw, file: 'one' });
  await s.ok('block-export-add', guest);
  const text = "' cannot support read-write users";
  expect(await refuse(s, { ...raw, file: 'one', 'read-only': true })).toBe(
    `Read-only block node 'raw${text}`,
  );
  const one = file(s, 'one', { 'node-name': 'one', 'read-only': true });
  expect(await refuse(s, one)).toBe(`Read-only block node 'one${text}`);
  await query(s);
  await s.ok('block-export-del', { id: 'e' });
  await s.event('BLOCK_EXPORT_DELETED');
  await reopen(s, one);
  await s.refused('block-export-add', guest);
  await reopen(s, { ...one, 'read-only': false });
  await s.io('raw', 'write -P 3 0 64k', 'read -P 3 0 64k');
});

scenario('RO-03', 'an image turns read-only with the file that it brought along', async s => {
  await s.image('image', { format: 'qcow2', size: '1M' });
  const q = { driver: 'qcow2', 'node-name': 'q', file: 'qf' };
  const qf = file(s, 'image', { 'node-name': 'qf' });
  await s.add({ ...q, file: qf });
  await s.io('q', 'write -P 7 0 64k');
  await s.closeGuest('q');
  await reopen(s, { ...q, 'read-only': true });
  await query(s);
  expect((await s.tool('qemu-img', 'check', '-q', s.path('image'))).code).toBe(0);
  expect((await s.tool('qemu-io', '-r', '-c', 'read -q -P 7 0 64k', s.path('image'))).code).toBe(0);
  await reopen(s, { ...q, 'read-only': false });
  await query(s);
  await s.io('q', 'read -P 7 0 64k', 'write -P 8 64k 64k');
  await s.closeGuest('q');
  await reopen(s, { ...q, 'read-only': true }, { ...qf, 'read-only': true });
  expect(await refuse(s, { ...q, 'read-only': false })).toBe('Block node is read-only');
  await reopen(s, { ...q, 'read-only': false }, { ...qf, 'read-only': false });
  await s.io('q', 'read -P 7 0 64k', 'read -P 8 64k 64k', 'write -P 9 128k 64k');
});

scenario('RO-04', 'filters come and go below a guest', async s => {
  await openDisks(s);
  for (const id of ['tg', 'other']) await s.ok('object-add', { 'qom-type': 'throttle-group', id });
  const th = { driver: 'throttle', 'node-name': 'th', file: 'one' };
  await s.add({ ...th, 'throttle-group': 'tg' });
  await s.io('raw', 'read -P 1 0 64k', 'write -P 5 0 64k');
  await reopen(s, { ...raw, file: 'th' });
  await query(s);
  await s.io('raw', 'read -P 5 0 64k', 'write -P 6 64k 64k');
  await reopen(s, { ...th, 'throttle-group': 'other' });
  expect(await refuse(s, { ...th, 'throttle-group': 'x' })).toBe("Throttle group 'x' does not exist");
  expect(await refuse(s, { ...th, 'throttle-group': 'tg', file: 'raw' })).toMatch(/would create a cycle/);
  await s.refused('blockdev-del', { 'node-name': 'th' });
  await reopen(s, { ...raw, file: 'one' });
  await s.ok('blockdev-del', { 'node-name': 'th' });
  await s.io('raw', 'read -P 5 0 64k', 'read -P 6 64k 64k', 'read -P 1 128k 64k');
  await reopen(s, { ...raw, file: 'two' });
  await s.io('raw', 'read -P 2 0 1M');
  await query(s);
});

scenario('RO-10', 'a guest that writes all the while loses nothing when filters come and go', async s => {
  await openDisks(s);
  await s.ok('object-add', { 'qom-type': 'throttle-group', id: 'tg' });
  await s.add({ driver: 'throttle', 'node-name': 'th', 'throttle-group': 'tg', file: 'one' });
  const guest = await s.guest('raw');
  const replies: string[] = [];
  for (let round = 0; round < 30; round++) {
    const commands = [0, 1, 2, 3].map(part => `aio_write -q -P ${round + 10} ${part * 256}k 256k`);
    const writing = commands.map(command => guest.run(command));
    const reopening = reopen(s, { ...raw, file: round % 2 === 0 ? 'th' : 'one' });
    replies.push(...(await Promise.all(writing)), await guest.run('aio_flush'));
    await reopening;
    replies.push(await guest.run(`read -q -P ${round + 10} 0 1M`));
  }
  s.note('replies', replies);
  expect(replies.filter(reply => /error|fail/i.test(reply))).toEqual([]);
  await query(s);
});

scenario('RO-11', 'a job stands still while what it reads through is exchanged', async s => {
  await openDisks(s);
  await s.image('target', { format: 'raw', size: '1M' });
  await s.add({ ...file(s, 'target'), 'node-name': 'target' });
  await s.ok('object-add', { 'qom-type': 'throttle-group', id: 'tg' });
  await s.add({ driver: 'throttle', 'node-name': 'th', 'throttle-group': 'tg', file: 'one' });
  await s.io('raw', 'read -P 1 0 1M');
  const job = { 'job-id': 'j', device: 'raw', target: 'target', sync: 'full', 'filter-node-name': 'cbw' };
  await s.ok('blockdev-backup', { ...job, speed: 64 * KiB, 'x-perf': { 'max-chunk': 64 * KiB } });
  const cannot = "Block format 'copy-before-write' used by node 'cbw' does not support reopening files";
  const cbw = { driver: 'copy-before-write', 'node-name': 'cbw', file: 'raw', target: 'target' };
  expect(await refuse(s, cbw)).toBe(cannot);
  await reopen(s, { ...raw, file: 'th' });
  await s.io('raw', 'write -P 9 256k 256k', 'read -P 9 256k 256k');
  await reopen(s, { ...raw, file: 'one' });
  await s.ok('blockdev-del', { 'node-name': 'th' });
  await s.ok('block-job-set-speed', { device: 'j', speed: 0 });
  await s.event('BLOCK_JOB_COMPLETED');
  await s.jobState('j', 'null');
  await s.io('target', 'read -P 1 0 1M');
  await s.io('raw', 'read -P 1 0 256k', 'read -P 9 256k 256k', 'read -P 1 512k 512k');
});

scenario('RO-05', 'a window moves', async s => {
  await openDisks(s);
  await reopen(s, { ...raw, file: 'one', offset: 64 * KiB, size: 64 * KiB });
  await query(s);
  await s.io('raw', 'write -P 9 0 64k');
  await s.closeGuest('raw');
  expect(await refuse(s, { ...raw, file: 'one', offset: 4096 * KiB })).toMatch(/cannot be greater/);
  await reopen(s, { ...raw, file: 'one' });
  await query(s);
  await s.io('raw', 'read -P 1 0 64k', 'read -P 9 64k 64k', 'read -P 1 128k 64k');
});

scenario('RO-06', 'a backing image is exchanged, taken away and given', async s => {
  for (const name of ['base', 'other']) {
    await s.image(name, { format: 'qcow2', size: '1M' });
    await s.tool('qemu-io', '-f', 'qcow2', '-c', `write -q -P ${name.length} 0 1M`, s.path(name));
    await s.add({ driver: 'qcow2', 'node-name': name, 'read-only': true, file: file(s, name) });
  }
  await s.image('over', { format: 'qcow2', backing: 'base' });
  const over = { driver: 'qcow2', 'node-name': 'over', file: 'of' };
  await s.add({ ...over, file: file(s, 'over', { 'node-name': 'of' }), backing: 'base' });
  await s.io('over', 'read -P 4 0 1M', 'write -P 1 0 64k');
  expect(await refuse(s, over)).toBe("backing is missing for 'over'");
  expect(await refuse(s, { ...over, backing: 'over' })).toMatch(
    /a backing child of 'over' would create a cycle/,
  );
  expect(await refuse(s, { ...over, backing: file(s, 'base') })).toBe(
    "Cannot change the option 'backing.driver'",
  );
  await reopen(s, { ...over, backing: 'other' });
  await query(s);
  await s.io('over', 'read -P 1 0 64k', 'read -P 5 64k 64k');
  await reopen(s, { ...over, backing: null });
  await query(s);
  await s.io('over', 'read -P 1 0 64k', 'read -P 0 64k 64k');
  await reopen(s, { ...over, backing: 'base' });
  await s.io('over', 'read -P 1 0 64k', 'read -P 4 64k 64k', 'write -P 8 512k 64k');
  await s.closeGuest('over');
  await s.ok('blockdev-del', { 'node-name': 'over' });
  expect((await s.tool('qemu-img', 'check', '-q', s.path('over'))).code).toBe(0);
});

scenario('RO-07', 'drivers that cannot be changed say so', async s => {
  await openDisks(s);
  await s.add({ driver: 'null-co', 'node-name': 'n', size: 64 * KiB });
  await s.add({ driver: 'copy-before-write', 'node-name': 'cbw', file: 'one', target: 'two' });
  await reopen(s, { driver: 'null-co', 'node-name': 'n', size: 64 * KiB });
  expect(await refuse(s, { driver: 'null-co', 'node-name': 'n', size: 512 })).toBe(
    "Cannot change the option 'size'",
  );
  expect(
    await refuse(s, { driver: 'copy-before-write', 'node-name': 'cbw', file: 'one', target: 'two' }),
  ).toBe("Block format 'copy-before-write' used by node 'cbw' does not support reopening files");
});

scenario('RO-08', 'what is said of zeroes and discards holds from then on', async s => {
  await openDisks(s);
  const one = file(s, 'one', { 'node-name': 'one' });
  await reopen(s, { ...one, 'detect-zeroes': 'on' });
  await query(s);
  await reopen(s, { ...one, discard: 'unmap', 'detect-zeroes': 'unmap' });
  await query(s);
  await s.io('one', 'write -P 0 0 512k');
  await s.closeGuest('one');
  await s.mapFile('one');
  await reopen(s, one);
  await query(s);
});

qemuDies('RO-09', 'a call that names no node changes nothing', '0011-reopen-nothing', async s => {
  await openDisks(s);
  await reopen(s);
  await query(s);
});
