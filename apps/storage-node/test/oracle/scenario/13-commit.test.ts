// Block commit: what ends up where, how the two kinds end, and what is refused.
import { expect } from 'vitest';
import {
  checkFiles,
  closeNodes,
  F040,
  F040_CONTENTS,
  jobReady,
  lookAtHeader,
  lookAtNodes,
  makeChain,
  newChain,
  noJobs,
  startCommit,
} from '../image-chain.ts';
import { jobsAre, lookAt } from '../job-watch.ts';
import { scenario } from '../scenario.ts';

const READ_ONLY_BELOW = F040.map((layer, index) => (index < 2 ? { ...layer, readOnly: true } : layer));

for (const [how, places] of [
  ['by path', (path: (name: string) => string) => ({ top: path('mid'), base: path('base') })],
  ['by node name', () => ({ 'top-node': 'mid', 'base-node': 'base' })],
] as const) {
  scenario(`CM-01 ${how}`, 'the middle of a chain is merged into the base', async s => {
    await newChain(s, READ_ONLY_BELOW);
    await startCommit(
      s,
      places(name => s.path(name)),
    );
    const { data } = await s.event('BLOCK_JOB_COMPLETED');
    expect(data).toMatchObject({ type: 'commit', len: 2_097_152, offset: 2_097_152 });
    await noJobs(s);
    expect(await s.ok('query-block-jobs')).toEqual([]);
    await lookAtNodes(s);
    await s.io('top', ...F040_CONTENTS);
    await s.closeGuest('top');
    await lookAtHeader(s, 'top');
    await closeNodes(s, 'mid', 'top', 'base');
    await s.tool(
      'qemu-io',
      '-f',
      'raw',
      '-r',
      '-c',
      'read -q -P 0xab 0 512k',
      '-c',
      'read -q -P 0xef 512k 512k',
      s.path('base'),
    );
    await checkFiles(s, 'mid', 'top');
  });
}

for (const [id, args] of [
  ['CM-03', { 'top-node': 'top', 'base-node': 'base' }],
  ['CM-04', {}],
] as const) {
  scenario(id, 'the active image is merged in two phases; completed, guests are on the base', async s => {
    await newChain(s, F040);
    await s.io('top', ...F040_CONTENTS, 'write -P 0x11 1M 64k');
    await startCommit(s, { ...args, speed: 1 });
    await s.until('the first step', async () => (await lookAt(s, 'job0'))!.offset > 0);
    for (const verb of ['job-complete', 'job-finalize', 'job-dismiss']) await s.refused(verb, { id: 'job0' });
    await s.refused('block-job-complete', { device: 'job0' });
    await s.ok('block-job-set-speed', { device: 'job0', speed: 0 });
    await jobReady(s);
    await s.ok('query-block-jobs');
    await lookAtNodes(s);
    await s.ok('block-job-complete', { device: 'job0' });
    await s.event('BLOCK_JOB_COMPLETED');
    await noJobs(s);
    await lookAtNodes(s);
    // The guest is on the base now: what it stood on can go.
    await s.refused('blockdev-del', { 'node-name': 'base' });
    await closeNodes(s, 'top', 'mid');
    await s.io(
      'top',
      'read -P 0xab 0 512k',
      'read -P 0xef 512k 512k',
      'read -P 0x11 1M 64k',
      'write -P 0x12 1M 64k',
    );
    await s.closeGuest('top');
    await closeNodes(s, 'base');
    await s.tool(
      'qemu-io',
      '-f',
      'raw',
      '-r',
      '-c',
      'read -q -P 0xef 512k 512k',
      '-c',
      'read -q -P 0x12 1M 64k',
      s.path('base'),
    );
  });
}

scenario('CM-05', 'what cannot be committed is refused in QEMU’s words, with no job left', async s => {
  await newChain(s, F040);
  await s.add({ driver: 'null-co', 'node-name': 'null', 'read-zeroes': true });
  const refused = (args: object) => s.refused('block-commit', { 'job-id': 'job0', device: 'top', ...args });
  const [base, mid, top] = [s.path('base'), s.path('mid'), s.path('top')];
  for (const args of [
    { device: 'badfile' },
    { base, top: base },
    { base: mid, top: mid },
    { base: top },
    { 'base-node': 'base', 'top-node': 'base' },
    { 'base-node': 'top' },
    { 'top-node': 'base' },
    { top: 'badfile' },
    { base: 'badfile' },
    { top: mid, base: 'badfile' },
    { top: 'badfile', base: 'badfile' },
    { 'top-node': 'badfile' },
    { 'base-node': 'badfile' },
    { top: mid, 'top-node': 'mid' },
    { base, 'base-node': 'base' },
    { base, 'base-node': 'base', top: mid, 'top-node': 'mid' },
    { base: mid, top: base },
    { 'base-node': 'mid', 'top-node': 'base' },
    { 'top-node': 'null' },
    { 'base-node': 'null' },
    { device: 'mid' },
    { device: 'base', 'top-node': 'badfile' },
    { 'backing-file': 'other' },
    { 'filter-node-name': 'mid' },
    { 'filter-node-name': '1st' },
    { 'top-node': 'mid', 'filter-node-name': 'mid' },
    { 'job-id': '1st' },
    { 'job-id': '1st', 'filter-node-name': '1st' },
    { 'job-id': '1st', 'top-node': 'mid' },
    { speed: -1 },
    { speed: -1, 'top-node': 'mid' },
    { 'on-error': 'never' },
    { 'backing-file': 'other', 'filter-node-name': 'mid' },
  ]) {
    await refused(args);
    expect(await s.ask('query-jobs')).toEqual([]);
  }
  await s.refused('block-commit', { device: 'top' });
  await lookAtNodes(s);
});

scenario('CM-08', 'the filter of an active commit is there, and what stands below is as before', async s => {
  await newChain(s, F040);
  await s.io('top', 'write 1M 64k');
  await lookAtNodes(s);
  await startCommit(s, { 'filter-node-name': 'flt' });
  await jobReady(s);
  await lookAtNodes(s);
  for (const name of ['flt', 'top', 'mid', 'base']) await s.refused('blockdev-del', { 'node-name': name });
  for (const name of ['flt', 'top', 'mid', 'base']) {
    await s.refused('block_resize', { 'node-name': name, size: 4_194_304 });
  }
  await s.ok('job-cancel', { id: 'job0' });
  await noJobs(s);
  await lookAtNodes(s);
});

scenario('CM-09', 'relative names of backing images mean the images that they meant', async s => {
  await s.peek('mkdir', s.path('sub'));
  await makeChain(s, [{ name: 'sub/base', format: 'raw', data: ['write -q -P 0xab 0 512k'] }]);
  await s.peek('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', s.path('sub/mid'), '2M');
  await s.peek(
    'qemu-img',
    'create',
    '-q',
    '-f',
    'qcow2',
    '-b',
    'sub/mid',
    '-F',
    'qcow2',
    s.path('top'),
    '2M',
  );
  await s.add({ driver: 'qcow2', 'node-name': 'top', file: { driver: 'file', filename: s.path('top') } });
  await lookAtNodes(s);
  await s.refused('block-commit', { 'job-id': 'job0', device: 'top', top: 'sub/mid', base: 'sub/base2' });
  await startCommit(s, { top: 'sub/mid', base: s.path('sub/base') });
  await noJobs(s);
  await lookAtNodes(s);
  await s.io('top', 'read -P 0xab 0 512k', 'read -P 0 512k 512k');
  await s.closeGuest('top');
  await lookAtHeader(s, 'top');
});

scenario('CM-10', 'the speed limit is seen, and can be changed', async s => {
  await newChain(s, [F040[0]!, { name: 'mid', data: ['write -q 0 2M'] }, { name: 'top' }]);
  await startCommit(s, { 'top-node': 'mid', speed: 1024 });
  await s.until('the first step', async () => (await lookAt(s, 'job0'))!.offset > 0);
  await s.ok('query-block-jobs');
  await s.ok('block-job-set-speed', { device: 'job0', speed: 2048 });
  expect((await lookAt(s, 'job0'))!.speed).toBe(2048);
  await s.ok('block-job-cancel', { device: 'job0' });
  await s.event('BLOCK_JOB_CANCELLED');
  await noJobs(s);
  await lookAtNodes(s);
});

scenario('CM-11', 'images of no length are committed at once', async s => {
  await newChain(
    s,
    F040.map(({ name, format }) => ({ name, size: '0', ...(format && { format }) })),
  );
  await startCommit(s, { 'top-node': 'mid' });
  await noJobs(s);
  await startCommit(s, {});
  await jobReady(s);
  await s.ok('job-complete', { id: 'job0' });
  await noJobs(s);
  await lookAtNodes(s);
});

scenario('CM-15', 'the chain is what is open, whatever headers say', async s => {
  await makeChain(s, F040);
  await s.image('other', { format: 'raw', size: '2M' });
  await s.add({ driver: 'raw', 'node-name': 'base', file: { driver: 'file', filename: s.path('base') } });
  await s.add({ driver: 'raw', 'node-name': 'other', file: { driver: 'file', filename: s.path('other') } });
  const file = { driver: 'file', filename: s.path('mid') };
  await s.add({ driver: 'qcow2', 'node-name': 'mid', file, backing: 'other' });
  await s.refused('block-commit', { 'job-id': 'job0', device: 'mid', base: s.path('base') });
  await s.refused('block-commit', { 'job-id': 'job0', device: 'mid', 'base-node': 'base' });
  await s.ok('block-commit', { 'job-id': 'job0', device: 'mid', base: s.path('other') });
  await jobReady(s);
  await s.ok('job-complete', { id: 'job0' });
  await s.event('BLOCK_JOB_COMPLETED');
  await noJobs(s);
  await lookAtNodes(s);
  await closeNodes(s, 'mid');
  await s.io('other', 'read -P 0 0 512k', 'read -P 0xef 512k 512k');
});

scenario('CM-16', 'a base in the middle of the chain keeps what it stands on', async s => {
  const layers = ['back0', 'back1', 'back2', 'top'].map((name, index) => ({
    name,
    data: [`write -q -P ${index + 1} ${index * 256}k 256k`],
  }));
  await newChain(s, layers);
  await startCommit(s, { 'base-node': 'back1' });
  await jobReady(s);
  await s.ok('job-complete', { id: 'job0' });
  await noJobs(s);
  await lookAtNodes(s);
  await closeNodes(s, 'top', 'back2');
  await s.io('back1', ...layers.map((_, index) => `read -P ${index + 1} ${index * 256}k 256k`));
  await s.closeGuest('back1');
  await closeNodes(s, 'back1', 'back0');
  await checkFiles(s, 'back0', 'back1', 'back2', 'top');
  expect(await s.compare('back1', 'top')).toBe(true);
});

for (const end of ['complete', 'keep'] as const) {
  scenario(`CM-17 ${end}`, 'what guests write while the job is ready is in the base', async s => {
    await newChain(s, F040);
    await s.io('top', 'write -P 0x11 1M 64k');
    await startCommit(s, {});
    await jobReady(s);
    await s.io('top', 'write -P 0x21 0 4k', 'write -z 512k 64k', 'write -P 0x22 1600k 130k');
    if (end === 'complete') await s.ok('job-complete', { id: 'job0' });
    else await s.ok('block-job-cancel', { device: 'job0' });
    const { data } = await s.event('BLOCK_JOB_COMPLETED');
    expect(data?.offset).toBe(data?.len);
    await noJobs(s);
    await lookAtNodes(s);
    await s.io(
      'top',
      'read -P 0x21 0 4k',
      'read -P 0 512k 64k',
      'read -P 0x22 1600k 130k',
      'write -P 0x33 64k 64k',
    );
    await s.closeGuest('top');
    await closeNodes(s, 'top', 'mid', 'base');
    await checkFiles(s, 'top', 'mid');
    const read = [
      '-c',
      'read -q -P 0x21 0 4k',
      '-c',
      'read -q -P 0x22 1600k 130k',
      '-c',
      'read -q -P 0x33 64k 64k',
    ];
    await s.tool('qemu-io', '-f', 'raw', '-r', ...read, s.path('base'));
    await s.tool('qemu-io', '-f', 'qcow2', '-r', ...read, s.path('top'));
  });
}

scenario(
  'CM-17 force',
  'a ready job that is cancelled by force has ended without a word about success',
  async s => {
    await newChain(s, F040);
    await startCommit(s, {});
    await jobReady(s);
    await s.ok('block-job-cancel', { device: 'job0', force: true });
    await s.event('BLOCK_JOB_CANCELLED');
    await noJobs(s);
    await lookAtNodes(s);
    await startCommit(s, {});
    await jobReady(s);
    await s.ok('job-cancel', { id: 'job0' });
    await s.event('BLOCK_JOB_CANCELLED');
    await noJobs(s);
  },
);

scenario('CM-19', 'a ready job that is paused stands by, and completes once it goes on', async s => {
  await newChain(s, F040);
  await startCommit(s, {});
  await jobReady(s);
  await s.ok('job-pause', { id: 'job0' });
  await jobsAre(s, ['job0'], 'standby');
  await s.ok('query-block-jobs');
  await s.refused('block-job-cancel', { device: 'job0' });
  await s.ok('job-complete', { id: 'job0' });
  await s.ok('job-complete', { id: 'job0' });
  await s.ok('query-block-jobs');
  await s.ok('job-resume', { id: 'job0' });
  await s.event('BLOCK_JOB_COMPLETED');
  await noJobs(s);
  await lookAtNodes(s);
});

scenario('CM-19 finalize', 'guests stand still from the decision until it is finalized', async s => {
  await newChain(s, F040);
  await s.io('top', 'write -P 0x11 0 64k');
  await startCommit(s, { 'auto-finalize': false, 'auto-dismiss': false });
  await jobReady(s);
  await s.ok('job-complete', { id: 'job0' });
  await s.event('BLOCK_JOB_PENDING');
  await s.ok('query-block-jobs');
  const writing = (await s.guest('top')).run('write -P 0x12 0 64k');
  let written = false;
  void writing.then(() => {
    written = true;
  });
  await new Promise(resolve => setTimeout(resolve, 300));
  s.note('written while pending', written);
  await s.ok('job-finalize', { id: 'job0' });
  await writing;
  await jobsAre(s, ['job0'], 'concluded');
  await s.ok('query-block-jobs');
  await s.ok('job-dismiss', { id: 'job0' });
  await closeNodes(s, 'top', 'mid');
  await s.io('top', 'read -P 0x12 0 64k');
});
