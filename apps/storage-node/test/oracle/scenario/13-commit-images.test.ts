// Block commit and how images are open: grown, read-only, opened by the header of the one above, with bitmaps.
import { expect } from 'vitest';
import {
  checkFiles,
  closeNodes,
  F040,
  jobReady,
  lookAtHeader,
  lookAtNodes,
  makeChain,
  newChain,
  noJobs,
  startCommit,
} from '../image-chain.ts';
import { different, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const READ_ONLY_BELOW = F040.map((layer, index) => (index < 2 ? { ...layer, readOnly: true } : layer));

scenario('CM-12', 'an overlay that is open read-only gets its new backing pointer all the same', async s => {
  await newChain(s, [
    { name: 'base', format: 'raw', readOnly: true, data: ['write -q -P 0xab 0 512k'] },
    { name: 'one', readOnly: true, data: ['write -q -P 0xcd 1M 64k'] },
    { name: 'two', readOnly: true },
    { name: 'top' },
  ]);
  await startCommit(s, { 'top-node': 'one', 'base-node': 'base' });
  await noJobs(s);
  await lookAtNodes(s);
  await s.io('top', 'read -P 0xab 0 512k', 'read -P 0xcd 1M 64k');
  await s.closeGuest('top');
  await lookAtHeader(s, 'two');
  await closeNodes(s, 'top', 'two', 'one', 'base');
  await checkFiles(s, 'top', 'two', 'one');
});

scenario('CM-12 backing-file', 'the overlay’s header says what it is told to', async s => {
  await newChain(s, READ_ONLY_BELOW);
  await startCommit(s, { 'top-node': 'mid', 'backing-file': 'sub/other' });
  await noJobs(s);
  await lookAtNodes(s);
  await lookAtHeader(s, 'top');
});

scenario('CM-02 grow', 'a base that is too small is grown; one that is larger stays', async s => {
  await newChain(s, [
    { name: 'base', format: 'raw', size: '1M' },
    { name: 'mid', size: '2M', data: ['write -q -P 1 1536k 64k'] },
    { name: 'top', size: '3M', data: ['write -q -P 2 2560k 64k'] },
  ]);
  await startCommit(s, { 'top-node': 'mid' });
  await noJobs(s);
  await lookAtNodes(s);
  await startCommit(s, {});
  await jobReady(s);
  await lookAtNodes(s);
  await s.ok('job-complete', { id: 'job0' });
  await noJobs(s);
  await lookAtNodes(s);
  await closeNodes(s, 'top', 'mid');
  await s.io('base', 'read -P 1 1536k 64k', 'read -P 2 2560k 64k', 'read -P 0 2M 512k');
  await s.closeGuest('base');
  await s.image('small', { format: 'qcow2', size: '1M', backing: 'base', backingFormat: 'raw' });
  const file = { driver: 'file', filename: s.path('small') };
  await s.add({ driver: 'qcow2', 'node-name': 'small', file, backing: 'base' });
  await s.io('small', 'write -P 3 0 64k');
  await s.ok('block-commit', { 'job-id': 'job0', device: 'small' });
  await jobReady(s);
  await s.ok('job-complete', { id: 'job0' });
  await noJobs(s);
  await lookAtNodes(s);
});

scenario('BR-06', 'bitmaps of the base take note of what is committed into it', async s => {
  await newChain(s, [{ name: 'base', size: '192k' }]);
  await s.ok('block-dirty-bitmap-add', { node: 'base', name: 'bitmap0' });
  await s.io('base', 'write 0 64k');
  await s.bitmaps('base');
  await s.closeGuest('base');
  await s.image('top', { format: 'qcow2', size: '192k', backing: 'base' });
  const file = { driver: 'file', filename: s.path('top') };
  await s.add({ driver: 'qcow2', 'node-name': 'top', file, backing: 'base' });
  await s.io('top', 'write 64k 512');
  await s.bitmaps('top');
  await startCommit(s, {});
  const { data } = await jobReady(s);
  expect(data).toMatchObject({ len: 65_536, offset: 65_536 });
  await s.bitmaps('top');
  await s.ok('job-complete', { id: 'job0' });
  await noJobs(s);
  expect((await s.bitmap('base', 'bitmap0')).count).toBe(131_072);
  await s.io('top', 'write 128k 64k');
  expect((await s.bitmap('base', 'bitmap0')).count).toBe(196_608);
});

for (const end of ['complete', 'keep'] as const) {
  const title = `images that were opened by the header of the one above, active commit, ${end}`;
  const play = async (s: Session) => {
    await makeChain(s, F040);
    await s.add({ driver: 'qcow2', 'node-name': 'top', file: { driver: 'file', filename: s.path('top') } });
    await s.io('top', 'write -P 0x22 1M 64k');
    await startCommit(s, {});
    await jobReady(s);
    await lookAtNodes(s);
    await s.io('top', 'write -P 0x23 1088k 64k');
    if (end === 'complete') await s.ok('job-complete', { id: 'job0' });
    else await s.ok('block-job-cancel', { device: 'job0' });
    await noJobs(s);
    await lookAtNodes(s);
    await s.io('top', 'read -P 0x22 1M 64k', 'read -P 0x23 1088k 64k', 'write -P 0x24 0 64k');
    await closeNodes(s, ...(end === 'complete' ? ['top'] : []));
    await s.closeGuest('top');
    await lookAtNodes(s);
  };
  if (end === 'complete') scenario(`CM-03 nested ${end}`, title, play);
  else different(`CM-03 nested ${end}`, title, '0033-a-commit-gives-back-what-it-opened', play);
}

scenario(
  'CM-03 read-only',
  'a commit of an image that nobody may write to leaves the base read-only',
  async s => {
    await newChain(
      s,
      F040.map(layer => ({ ...layer, readOnly: true })),
    );
    await startCommit(s, {});
    await jobReady(s);
    await lookAtNodes(s);
    await s.ok('job-complete', { id: 'job0' });
    await noJobs(s);
    await lookAtNodes(s);
    await closeNodes(s, 'top', 'mid', 'base');
  },
);
