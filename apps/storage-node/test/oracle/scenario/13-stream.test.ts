// Streaming a chain up into the image on its top: whole, down to a base, and what is refused.
import { expect } from 'vitest';
import {
  checkFiles,
  closeNodes,
  F040,
  F040_CONTENTS,
  lookAtHeader,
  lookAtNodes,
  newChain,
  noJobs,
  startStream,
} from '../image-chain.ts';
import { jobsAre, lookAt } from '../job-watch.ts';
import { different, scenario } from '../scenario.ts';

const READ_ONLY_BELOW = F040.map((layer, index) => (index < 2 ? { ...layer, readOnly: true } : layer));

scenario('ST-01', 'the whole chain is pulled up, and the image stands by itself', async s => {
  await newChain(s, READ_ONLY_BELOW);
  await s.io('top', 'write -P 9 0 4k');
  await startStream(s, { speed: 1 });
  await s.until('a step', async () => (await lookAt(s, 'job0'))!.offset >= 524_288);
  await s.ok('query-block-jobs');
  await lookAtNodes(s);
  for (const name of ['top', 'mid', 'base']) await s.refused('blockdev-del', { 'node-name': name });
  await s.io('top', 'write -P 8 1M 4k');
  await s.ok('block-job-set-speed', { device: 'job0', speed: 0 });
  const { data } = await s.event('BLOCK_JOB_COMPLETED');
  expect(data).toMatchObject({ type: 'stream', len: 2_097_152, offset: 2_097_152 });
  await noJobs(s);
  await lookAtNodes(s);
  await closeNodes(s, 'mid', 'base');
  await s.io('top', 'read -P 9 0 4k', 'read -P 0xab 4k 508k', 'read -P 0xef 512k 512k', 'read -P 8 1M 4k');
  await s.closeGuest('top');
  await closeNodes(s, 'top');
  await lookAtHeader(s, 'top');
  await checkFiles(s, 'top');
});

for (const [how, args] of [
  ['base-node', { 'base-node': 'base' }],
  ['bottom', { bottom: 'mid' }],
] as const) {
  scenario(`ST-02 ${how}`, `down to a base that is named by ${how}`, async s => {
    await newChain(s, READ_ONLY_BELOW);
    await startStream(s, args);
    await noJobs(s);
    await lookAtNodes(s);
    await closeNodes(s, 'mid');
    await s.io('top', ...F040_CONTENTS);
    await s.closeGuest('top');
    await lookAtHeader(s, 'top');
    await closeNodes(s, 'top', 'base');
    await checkFiles(s, 'top');
    await s.tool('qemu-img', 'map', '--output=json', '-f', 'qcow2', s.path('top'));
  });
}

scenario('ST-02 path', 'the base is named by its path, and the header says what it is told to', async s => {
  await newChain(s, READ_ONLY_BELOW);
  await startStream(s, { base: s.path('base'), 'backing-file': 'sub/other' });
  await noJobs(s);
  await lookAtNodes(s);
  await lookAtHeader(s, 'top');
});

scenario('ST-03', 'an image in the middle that is open read-only is filled all the same', async s => {
  await newChain(s, READ_ONLY_BELOW);
  await s.ok('block-stream', { 'job-id': 'job0', device: 'mid' });
  await noJobs(s);
  await lookAtNodes(s);
  await s.io('top', ...F040_CONTENTS);
  await s.closeGuest('top');
  await lookAtHeader(s, 'mid');
  await closeNodes(s, 'top', 'mid', 'base');
  await checkFiles(s, 'top', 'mid');
});

scenario('ST-04', 'what cannot be streamed is refused in QEMU’s words, with no job left', async s => {
  await newChain(s, F040);
  await s.add({ driver: 'null-co', 'node-name': 'null', 'read-zeroes': true });
  const base = s.path('base');
  for (const args of [
    { device: 'none' },
    { 'job-id': '1st' },
    { base: 'none' },
    { base: s.path('top') },
    { 'base-node': 'none' },
    { bottom: 'none' },
    { base, 'base-node': 'base' },
    { base, bottom: 'mid' },
    { 'base-node': 'base', bottom: 'mid' },
    { base, 'base-node': 'base', bottom: 'mid' },
    { 'base-node': 'top' },
    { 'base-node': 'null' },
    { bottom: 'null' },
    { 'backing-file': 'x' },
    { 'backing-file': 'x', 'filter-node-name': 'mid' },
    { speed: -1 },
    { 'on-error': 'never' },
    { 'filter-node-name': 'mid' },
    { 'filter-node-name': '1st' },
    { 'filter-node-name': '1st', 'job-id': '1st' },
  ]) {
    await s.refused('block-stream', { 'job-id': 'job0', device: 'top', ...args });
    expect(await s.ask('query-jobs')).toEqual([]);
  }
  await s.refused('block-stream', { device: 'top' });
  await lookAtNodes(s);
});

scenario('ST-05', 'with nothing between it and its base an image stays as it is', async s => {
  await newChain(s, F040);
  await startStream(s, { 'base-node': 'mid' });
  await noJobs(s);
  await startStream(s, { bottom: 'top' });
  await noJobs(s);
  await s.ok('block-stream', { 'job-id': 'job0', device: 'base' });
  await noJobs(s);
  await lookAtNodes(s);
  await lookAtHeader(s, 'top');
});

const sector = (errno: number) => ({
  'inject-error': [{ event: 'read_aio', errno, sector: 1664, once: true, immediately: false }],
});

for (const policy of ['report', 'ignore', 'stop', 'enospc'] as const) {
  scenario(`ST-06 ${policy}`, `a read that fails under on-error ${policy}`, async s => {
    const errno = policy === 'enospc' ? 28 : 5;
    await newChain(s, [
      { name: 'base', data: ['write -q -P 0xab 0 2M'], readOnly: true, fault: sector(errno) },
      { name: 'top' },
    ]);
    await startStream(s, { 'on-error': policy });
    await s.event('BLOCK_JOB_ERROR');
    if (policy === 'stop' || policy === 'enospc') {
      await jobsAre(s, ['job0'], 'paused');
      await s.ok('query-block-jobs');
      await s.ok('job-resume', { id: 'job0' });
    }
    await s.event('BLOCK_JOB_COMPLETED');
    await noJobs(s);
    await lookAtNodes(s);
    await lookAtHeader(s, 'top');
    await s.io('top', 'read -P 0xab 0 2M');
  });
}

scenario(
  'ST-07',
  'a stream changes nothing of what the disk reads as: no bitmap takes note of it',
  async s => {
    await newChain(s, F040);
    for (const node of ['top', 'mid']) {
      await s.ok('block-dirty-bitmap-add', { node, name: 'b', granularity: 65_536 });
    }
    await s.io('top', 'write 1M 64k');
    await startStream(s, {});
    await noJobs(s);
    for (const node of ['top', 'mid'])
      expect((await s.bitmap(node, 'b')).count).toBe(node === 'top' ? 65_536 : 0);
  },
);

scenario('ST-08', 'nobody may write to what is being pulled up', async s => {
  await newChain(s, F040);
  await s.nbdSocket();
  const writer = (node: string) => ({ type: 'nbd', id: 'e', 'node-name': node, writable: true });
  await s.ok('block-export-add', writer('base'));
  await s.refused('block-stream', { 'job-id': 'job0', device: 'top' });
  await s.ok('query-jobs');
  await s.ok('block-export-del', { id: 'e' });
  await s.event('BLOCK_EXPORT_DELETED');
  await startStream(s, { speed: 1, 'base-node': 'base' });
  await s.ok('job-pause', { id: 'job0' });
  for (const node of ['base', 'mid']) await s.refused('block-export-add', writer(node));
  await s.ok('job-cancel', { id: 'job0' });
  await noJobs(s);
});

scenario('ST-09', 'guests write over what is just being pulled up', async s => {
  await newChain(s, [
    { name: 'base', data: ['write -q -P 1 0 16M'], size: '16M' },
    { name: 'top', size: '16M' },
  ]);
  await s.guest('top');
  await startStream(s, { speed: 8_388_608 });
  const writes: string[] = [];
  for (let i = 0; i < 60; i++) writes.push(`write -q -P ${i + 2} ${i * 270}k 90k`);
  await s.io('top', ...writes);
  await noJobs(s);
  await s.io('top', ...writes.map((_, i) => `read -q -P ${i + 2} ${i * 270}k 90k`), 'read -q -P 1 90k 180k');
  await s.closeGuest('top');
  await closeNodes(s, 'top', 'base');
  await checkFiles(s, 'top');
});

scenario('CB-01', 'change-backing-file rewrites one image’s header, and nothing else', async s => {
  await newChain(s, [{ name: 'base' }, { name: 'mid', readOnly: true }, { name: 'top' }]);
  const change = (device: string, image: string, file: string) => ({
    device,
    'image-node-name': image,
    'backing-file': file,
  });
  await s.ok('change-backing-file', change('top', 'mid', 'sub/other'));
  await lookAtHeader(s, 'mid');
  await lookAtNodes(s);
  for (const args of [
    change('none', 'mid', 'x'),
    change('top', 'none', 'x'),
    change('top', 'base', 'x'),
    change('mid', 'top', 'x'),
  ]) {
    await s.refused('change-backing-file', args);
  }
  await s.refused('change-backing-file', change('top', 'top', 'y'.repeat(1024)));
  await s.ok('change-backing-file', change('top', 'top', 'y'.repeat(1023)));
  await lookAtHeader(s, 'top');
  await s.ok('change-backing-file', change('top', 'top', ''));
  await lookAtHeader(s, 'top');
  await s.io('top', 'write 0 64k', 'read 0 128k');
  await s.closeGuest('top');
  await closeNodes(s, 'top', 'mid', 'base');
  await checkFiles(s, 'top', 'mid');
});

different(
  'CB-02',
  'change-backing-file writes the format that the backing image has',
  '0029-change-backing-file-keeps-the-format',
  async s => {
    await newChain(s, F040);
    await s.ok('change-backing-file', {
      device: 'top',
      'image-node-name': 'mid',
      'backing-file': s.path('base'),
    });
    await lookAtHeader(s, 'mid');
  },
);
