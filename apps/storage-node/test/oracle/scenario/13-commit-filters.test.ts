// Commit in chains with filters between the images, and beside them.
import {
  closeNodes,
  jobReady,
  lookAtNodes,
  makeChain,
  newChain,
  noJobs,
  startCommit,
  startStream,
} from '../image-chain.ts';
import { lookAt } from '../job-watch.ts';
import { scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const throttle = (s: Session, name: string, file: string) =>
  s.add({ driver: 'throttle', 'node-name': name, 'throttle-group': 'tg', file });

/** F040f: top-filter → cow-3 → cow-2 → cow-1 → bottom-filter → cow-0; each image has data of its own. */
async function filteredChain(s: Session): Promise<void> {
  const names = ['img0', 'img1', 'img2', 'img3'];
  await makeChain(
    s,
    names.map((name, i) => ({ name, size: '64M', data: [`write -q -P ${i + 1} ${i}M 1M`] })),
  );
  await s.ok('object-add', { 'qom-type': 'throttle-group', id: 'tg' });
  const cow = (i: number, backing?: string) =>
    s.add({
      driver: 'qcow2',
      'node-name': `cow-${i}`,
      file: { driver: 'file', filename: s.path(`img${i}`) },
      ...(backing !== undefined && { backing }),
    });
  await cow(0);
  await throttle(s, 'bottom-filter', 'cow-0');
  await cow(1, 'bottom-filter');
  await cow(2, 'cow-1');
  await cow(3, 'cow-2');
  await throttle(s, 'top-filter', 'cow-3');
}

const CONTENTS = ['read -P 1 0 1M', 'read -P 2 1M 1M', 'read -P 3 2M 1M', 'read -P 4 3M 1M'];

scenario('CM-14 a', 'an image without a filter goes; its neighbours stay', async s => {
  await filteredChain(s);
  await s.ok('block-commit', {
    'job-id': 'job0',
    device: 'top-filter',
    'top-node': 'cow-2',
    'base-node': 'cow-1',
  });
  await noJobs(s);
  await lookAtNodes(s);
  await s.io('top-filter', ...CONTENTS);
  await s.closeGuest('top-filter');
  await closeNodes(s, 'cow-2', 'top-filter', 'cow-3', 'cow-1', 'bottom-filter', 'cow-0');
  await s.tool('qemu-io', '-f', 'qcow2', '-r', '-c', 'read -q -P 3 2M 1M', s.path('img1'));
});

scenario('CM-14 b', 'an image goes, and with it the filter between it and the base', async s => {
  await filteredChain(s);
  await s.ok('block-commit', {
    'job-id': 'job0',
    device: 'top-filter',
    'top-node': 'cow-1',
    'base-node': 'cow-0',
  });
  await noJobs(s);
  await lookAtNodes(s);
  await s.io('top-filter', ...CONTENTS);
  await s.closeGuest('top-filter');
  await closeNodes(s, 'cow-1', 'bottom-filter', 'top-filter', 'cow-3', 'cow-2', 'cow-0');
  await s.tool('qemu-io', '-f', 'qcow2', '-r', '-c', 'read -q -P 2 1M 1M', s.path('img0'));
});

scenario('CM-14 c', 'an active commit from a filter puts its guest on the base', async s => {
  await filteredChain(s);
  await s.io('top-filter', ...CONTENTS);
  await s.refused('blockdev-del', { 'node-name': 'top-filter' });
  await s.ok('block-commit', { 'job-id': 'job0', device: 'top-filter', 'base-node': 'cow-2' });
  await jobReady(s);
  await lookAtNodes(s);
  await s.ok('job-complete', { id: 'job0' });
  await noJobs(s);
  await lookAtNodes(s);
  await closeNodes(s, 'top-filter', 'cow-3');
  await s.io('top-filter', ...CONTENTS);
});

scenario('CM-14 d', 'named by its image, the commit leaves the filter above it', async s => {
  await filteredChain(s);
  await s.io('top-filter', ...CONTENTS);
  const range = { 'top-node': 'cow-3', 'base-node': 'cow-2' };
  await s.ok('block-commit', { 'job-id': 'job0', device: 'top-filter', ...range });
  await jobReady(s);
  await lookAtNodes(s);
  await s.ok('job-complete', { id: 'job0' });
  await noJobs(s);
  await lookAtNodes(s);
  await closeNodes(s, 'cow-3');
  await s.io('top-filter', ...CONTENTS, 'write -P 9 0 64k');
});

for (const when of ['before', 'after'] as const) {
  scenario(
    `CM-06 ${when}`,
    `a filter beside the chain, added ${when} the commit has begun, and quit at once`,
    async s => {
      await newChain(s, [{ name: 'base' }, { name: 'mid' }, { name: 'top' }]);
      await s.ok('object-add', { 'qom-type': 'throttle-group', id: 'tg' });
      if (when === 'before') await throttle(s, 'side', 'mid');
      await startCommit(s, { 'base-node': 'mid', 'auto-dismiss': false });
      await jobReady(s);
      if (when === 'after') await throttle(s, 'side', 'mid');
      await s.daemon.quit();
    },
  );
}

scenario('CM-07', 'a slow commit that is cancelled lets everything go', async s => {
  await newChain(s, [{ name: 'base' }, { name: 'mid' }, { name: 'top' }]);
  await s.io('top', 'write -P 1 0 2M');
  await startCommit(s, { speed: 524_288, 'auto-dismiss': false });
  await s.until('a step', async () => (await lookAt(s, 'job0'))!.offset > 0);
  await s.ok('block-job-cancel', { device: 'job0' });
  await s.event('BLOCK_JOB_CANCELLED');
  await s.jobState('job0', 'concluded');
  await s.ok('job-dismiss', { id: 'job0' });
  await s.closeGuest('top');
  await closeNodes(s, 'top', 'mid', 'base');
});

scenario('CM-07 export', 'an export of an image that is merged moves to the base', async s => {
  await newChain(s, [{ name: 'base' }, { name: 'mid', data: ['write -q -P 5 0 64k'] }, { name: 'top' }]);
  await s.nbdSocket();
  await s.ok('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'mid', name: 'mid' });
  await s.readExport('mid', 'read -P 5 0 64k');
  await startCommit(s, { 'top-node': 'mid' });
  await noJobs(s);
  await lookAtNodes(s);
  await s.ok('query-block-exports');
  await s.readExport('mid', 'read -P 5 0 64k');
  await closeNodes(s, 'mid');
});

const HELD: Readonly<Record<string, (s: Session) => Promise<unknown>>> = {
  'active commit': s => startCommit(s, {}),
  'intermediate commit': s => startCommit(s, { 'top-node': 'mid', speed: 1 }),
  stream: s => startStream(s, { speed: 1 }),
  'stream to a base': s => startStream(s, { speed: 1, 'base-node': 'base' }),
};

for (const [job, start] of Object.entries(HELD)) {
  scenario(`CM-14 held ${job}`, `nobody changes the links of a chain under a job: ${job}`, async s => {
    const layers = [
      { name: 'base', data: ['write -q 0 2M'] },
      { name: 'mid', data: ['write -q 0 2M'] },
    ];
    await newChain(s, layers);
    await s.image('top', { format: 'qcow2', size: '2M', backing: 'mid' });
    await s.add({ driver: 'file', 'node-name': 'top-file', filename: s.path('top') });
    await s.add({ driver: 'qcow2', 'node-name': 'top', file: 'top-file', backing: 'mid' });
    await start(s);
    if (job === 'active commit') await jobReady(s);
    else await s.ok('job-pause', { id: 'job0' });
    for (const backing of ['base', null]) {
      const options = { driver: 'qcow2', 'node-name': 'top', file: 'top-file', backing };
      await s.refused('blockdev-reopen', { options: [options] });
    }
    await s.ok('job-cancel', { id: 'job0' });
    await noJobs(s);
    await lookAtNodes(s);
  });
}
