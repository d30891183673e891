// Backups of disks with data, explicit zeroes and holes: contents, and what the target holds of each.
import { expect } from 'vitest';
import { different, type Play, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

type Kind = 'data' | 'zero';
interface Layout {
  readonly size: string;
  /** Kind, offset, length as qemu-io takes them. */
  readonly runs: readonly (readonly [Kind, string, string])[];
}

async function newDisk(s: Session, name: string, size: string, more: object = {}): Promise<void> {
  await s.image(name, { format: 'qcow2', size, ...more });
  const file = { driver: 'file', filename: s.path(name) };
  await s.add({ driver: 'qcow2', 'node-name': name, file });
}

const command = ([kind, offset, length]: Layout['runs'][number]) =>
  kind === 'data' ? `write -P 0x5a ${offset} ${length}` : `write -z ${offset} ${length}`;

async function backup(s: Session, more: object = {}): Promise<void> {
  const job = { 'job-id': 'job', device: 'disk', target: 'target', sync: 'full', ...more };
  await s.ok('blockdev-backup', job);
  const { data } = await s.event('BLOCK_JOB_COMPLETED', { device: 'job' });
  expect(data).not.toHaveProperty('error');
  await s.jobState('job', 'null');
}

async function sameContents(s: Session): Promise<void> {
  await s.closeGuest('disk');
  for (const node of ['disk', 'target']) await s.ok('blockdev-del', { 'node-name': node });
  expect(await s.compare('disk', 'target')).toBe(true);
}

/** Where the target has data at all: zeroes and holes read the same, and neither takes space. */
async function dataOf(s: Session, name: string): Promise<void> {
  const { stdout } = await s.peek('qemu-img', 'map', '-U', '-f', 'qcow2', '--output=json', s.path(name));
  const map = JSON.parse(stdout) as { start: number; length: number; data: boolean; zero: boolean }[];
  s.note(`data of ${name}`, joined(map.map(({ start, length, zero }) => ({ start, length, zero }))));
}

function joined(runs: readonly { start: number; length: number; zero: boolean }[]): object[] {
  const result: { start: number; length: number; zero: boolean }[] = [];
  for (const run of runs) {
    const last = result.at(-1);
    if (last?.zero === run.zero) last.length += run.length;
    else result.push({ ...run });
  }
  return result;
}

function full({ size, runs }: Layout): Play {
  return async s => {
    await newDisk(s, 'disk', size);
    await newDisk(s, 'target', size);
    await s.io('disk', ...runs.map(command));
    await backup(s);
    await sameContents(s);
    await dataOf(s, 'target');
  };
}

const mixed: Layout = {
  size: '64M',
  runs: [
    ['data', '0', '1M'],
    ['zero', '2M', '1M'],
    ['data', '5M', '2M'],
    ['zero', '8M', '1M'],
    ['data', '10M', '512k'],
    ['zero', '20M', '4M'],
    ['data', '30M', '1M'],
  ],
};
scenario('ZR-01', 'data, zeroes and holes of a mixed disk', full(mixed));

const alternating = Array.from({ length: 24 }, (_, index) => index)
  .filter(index => index % 3 < 2)
  .map(index => [index % 3 === 0 ? 'data' : 'zero', `${index * 64}k`, '64k'] as const);
scenario(
  'ZR-02',
  'single clusters of data, zeroes and holes in turn, then zeroes to the end',
  full({ size: '16M', runs: [...alternating, ['zero', '2M', '14M']] }),
);
scenario(
  'ZR-03',
  'a run of zeroes longer than any chunk',
  full({
    size: '48M',
    runs: [
      ['data', '0', '1M'],
      ['zero', '4M', '32M'],
      ['data', '40M', '1M'],
    ],
  }),
);
scenario(
  'ZR-04 data',
  'a last cluster cut short, of data',
  full({ size: '4198400', runs: [['data', '4M', '4096']] }),
);
different(
  'ZR-04 zero',
  'a last cluster cut short, of zeroes',
  '0018-a-short-last-cluster-of-zeroes-is-zeroes',
  full({ size: '4198400', runs: [['zero', '4M', '4096']] }),
);
scenario(
  'ZR-05',
  'a run of zeroes beyond 2 GiB',
  full({
    size: '2560M',
    runs: [
      ['zero', '0', '1280M'],
      ['zero', '1280M', '1280M'],
    ],
  }),
);

scenario('ZR-06', 'zeroes of the source go over what the target held', async s => {
  await newDisk(s, 'disk', '8M');
  await newDisk(s, 'target', '8M');
  await s.io('target', 'write -P 0xcc 0 8M');
  await s.closeGuest('target');
  await s.io('disk', 'write -P 0x5a 0 1M', 'write -z 2M 2M', 'write -P 0x5a 6M 64k');
  await backup(s);
  await sameContents(s);
});

scenario('ZR-07', 'sync top: holes stay holes over a backing image, zeroes stay zeroes', async s => {
  await s.image('base', { format: 'qcow2', size: '8M' });
  await s.peek('qemu-io', '-f', 'qcow2', '-c', 'write -P 0x33 0 8M', s.path('base'));
  await newDisk(s, 'disk', '8M', { backing: 'base' });
  await newDisk(s, 'target', '8M', { backing: 'base' });
  await s.io('disk', 'write -P 0x5a 0 1M', 'write -z 2M 1M', 'write -P 0x5a 3M 64k', 'write -z 4160k 64k');
  await backup(s, { sync: 'top' });
  await sameContents(s);
  await dataOf(s, 'target');
});

scenario('ZR-08', 'a copy cluster that mixes data and zeroes is data', async s => {
  await newDisk(s, 'disk', '4M', { options: 'cluster_size=4k' });
  await newDisk(s, 'target', '4M');
  await s.io('disk', 'write -P 0x5a 68k 4k', 'write -z 72k 8k', 'write -z 128k 60k', 'write -P 0x5a 188k 4k');
  await backup(s);
  await sameContents(s);
  await dataOf(s, 'target');
});

/** Islands that a bitmap says, over a target full of 0xcc: nothing else may change. */
function islands(...commands: string[]): Play {
  return async s => {
    await newDisk(s, 'disk', '32M');
    await newDisk(s, 'target', '32M');
    await s.io('target', 'write -P 0xcc 0 32M');
    await s.closeGuest('target');
    await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'changed' });
    await s.io('disk', ...commands);
    await backup(s, { sync: 'bitmap', bitmap: 'changed', 'bitmap-mode': 'never' });
    await s.ok('blockdev-del', { 'node-name': 'target' });
    const file = { driver: 'file', filename: s.path('target') };
    await s.add({ driver: 'qcow2', 'node-name': 'target', file });
    const reads = Array.from({ length: 32 }, (_, index) => `read -v ${index}M 16`);
    await s.io('target', ...reads);
  };
}
scenario(
  'ZR-10',
  'a dirty run that is data, then zeroes, and the other way round',
  islands('write -P 0x5a 4M 1M', 'write -z 5M 1M', 'write -z 9M 1M', 'write -P 0x5b 10M 1M'),
);
scenario(
  'ZR-11',
  'islands of data and of zeroes alone change the target',
  islands('write -P 0x7b 4M 64k', 'write -z 24M 64k'),
);
scenario(
  'ZR-12',
  'a clean gap in a run of zeroes stays as the target had it',
  islands('write -z 4M 1M', 'write -z 6M 1M'),
);

scenario('ZR-13', 'an increment ships no data for what a guest has trimmed', async s => {
  await s.image('disk', { format: 'qcow2', size: '64M' });
  const file = { driver: 'file', filename: s.path('disk') };
  await s.add({ driver: 'qcow2', 'node-name': 'disk', discard: 'unmap', file });
  await newDisk(s, 'target', '64M');
  await s.io('disk', 'write -P 0x5a 0 32M');
  await s.ok('block-dirty-bitmap-add', { node: 'disk', name: 'changed' });
  await s.io('disk', 'discard 0 32M');
  await backup(s, { sync: 'incremental', bitmap: 'changed' });
  await sameContents(s);
  await dataOf(s, 'target');
});
