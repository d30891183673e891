// Backups whose target the command makes or opens by itself.
import { existsSync } from 'node:fs';
import { expect } from 'vitest';
import { ABORT } from '../backup-chain.ts';
import { ours, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

const DRIVE = 'drive-backup';

async function disks(s: Session): Promise<void> {
  await s.image('r', { format: 'raw', size: '4M' });
  await s.image('b', { format: 'qcow2', size: '4M' });
  await s.tool('qemu-io', '-f', 'qcow2', '-c', 'write -q -P 1 0 1M', s.path('b'));
  await s.image('o', { format: 'qcow2', backing: 'b' });
  await s.add({ driver: 'raw', 'node-name': 'r', file: { driver: 'file', filename: s.path('r') } });
  await s.add({ driver: 'qcow2', 'node-name': 'o', file: { driver: 'file', filename: s.path('o') } });
  await s.io('r', 'write -P 3 0 1M', 'write -P 4 3M 64k', 'flush');
  await s.io('o', 'write -P 2 512k 1M', 'flush');
}

const arguments_ = (s: Session, device: string, target: string, more: object = {}) => ({
  'job-id': `j-${target}`,
  device,
  target: s.path(target),
  sync: 'full',
  ...more,
});

async function info(s: Session, name: string): Promise<void> {
  const { stdout } = await s.peek('qemu-img', 'info', '-U', '--output=json', s.path(name));
  const { 'actual-size': _, ...facts } = JSON.parse(stdout);
  s.note(`info of ${name}`, facts);
}

/** Without the length of files: how far an image grows ahead of its use is the daemon's own business. */
async function query(s: Session): Promise<void> {
  const nodes = await s.ask<{ drv: string; image: { 'virtual-size'?: number } }[]>('query-named-block-nodes');
  for (const { drv, image } of nodes) if (drv === 'file') delete image['virtual-size'];
  s.note('block nodes', nodes);
}

scenario(
  'DB-01',
  'the target is made in the format of the source or as told, and goes with the job',
  async s => {
    await disks(s);
    for (const [device, target, more] of [
      ['r', 'r-full', {}],
      ['r', 'r-qcow2', { format: 'qcow2' }],
      ['r', 'r-top', { sync: 'top' }],
      ['r', 'r-small', { format: 'qcow2', compress: true }],
      ['o', 'o-full', {}],
      ['o', 'o-raw', { format: 'raw' }],
      ['o', 'o-top', { sync: 'top' }],
    ] as const) {
      await s.ok(DRIVE, arguments_(s, device, target, more));
      await s.jobState(`j-${target}`, 'null');
      await info(s, target);
      const format = /raw|r-full|r-top/.test(target) ? 'raw' : 'qcow2';
      const sourceFormat = device === 'r' ? 'raw' : 'qcow2';
      expect(await s.compare(device, target, { one: sourceFormat, other: format })).toBe(true);
    }
    await query(s);
  },
);

scenario('DB-02', 'an image that is there is overwritten', async s => {
  await disks(s);
  await s.image('there', { format: 'qcow2', size: '4M' });
  await s.image('small', { format: 'raw', size: '1M' });
  for (const more of [{}, { format: 'qcow2' }, { format: 'raw' }]) {
    await s.qmp(DRIVE, arguments_(s, 'r', 'there', { mode: 'existing', ...more }));
    await s.until('the job is gone', async () => (await s.ask<object[]>('query-jobs')).length === 0);
  }
  await s.refused(DRIVE, arguments_(s, 'r', 'small', { mode: 'existing', format: 'raw' }));
  await s.refused(DRIVE, arguments_(s, 'r', 'missing', { mode: 'existing' }));
  await s.ok(DRIVE, arguments_(s, 'r', 'there', { 'job-id': 'again', format: 'qcow2' }));
  await s.jobState('again', 'null');
  await info(s, 'there');
  expect(await s.compare('r', 'there', { one: 'raw', other: 'qcow2' })).toBe(true);
});

scenario('DB-03', 'the target of a frozen moment stands above its source', async s => {
  await disks(s);
  await s.ok(DRIVE, arguments_(s, 'o', 'none', { sync: 'none' }));
  await query(s);
  await s.io('o', 'write -P 5 0 64k', 'write -P 6 2M 64k');
  await s.ok('block-job-cancel', { device: 'j-none' });
  await s.jobState('j-none', 'null');
  await info(s, 'none');
  const reads = ['read -q -P 1 0 512k', 'read -q -P 2 512k 1M'].flatMap(read => ['-c', read]);
  await s.tool('qemu-io', '-r', '-U', '-f', 'qcow2', ...reads.slice(0, 2), s.path('none'));
  await query(s);
});

scenario('DB-04', 'what cannot be a target is refused', async s => {
  await disks(s);
  const wrong: object[] = [
    { device: 'x' },
    { 'job-id': '' },
    { target: '/nowhere/x' },
    { target: s.path('') },
    { target: s.path('r') },
    { format: 'foo' },
    { mode: 'foo' },
    { sync: 'none' },
    { compress: true },
    { sync: 'bitmap' },
    { bitmap: 'nobody', sync: 'incremental' },
    { 'filter-node-name': 'x y' },
    { speed: -1 },
    { 'on-target-error': 'foo' },
  ];
  for (const more of wrong) await s.refused(DRIVE, arguments_(s, 'r', 't', more));
  await s.refused('transaction', {
    actions: [{ type: DRIVE, data: arguments_(s, 'r', 't') }, ABORT],
  });
  await query(s);
  expect(await s.ok('query-jobs')).toEqual([]);
});

scenario('DB-05', 'several in one transaction, with a bitmap', async s => {
  await disks(s);
  await s.ok('block-dirty-bitmap-add', { node: 'r', name: 'b' });
  await s.io('r', 'write -P 7 2M 64k', 'flush');
  const data = [
    arguments_(s, 'r', 'inc', { sync: 'incremental', bitmap: 'b', format: 'qcow2' }),
    arguments_(s, 'o', 'full'),
  ];
  const actions = data.map(one => ({ type: DRIVE, data: one }));
  await s.ok('transaction', { actions, properties: { 'completion-mode': 'grouped' } });
  await s.until('the jobs are gone', async () => (await s.ask<object[]>('query-jobs')).length === 0);
  await s.bitmaps('r');
  await s.tool(
    'qemu-io',
    '-r',
    '-f',
    'qcow2',
    '-c',
    'read -q -P 7 2M 64k',
    '-c',
    'read -q -P 0 0 2M',
    s.path('inc'),
  );
  expect(await s.compare('o', 'full')).toBe(true);
  await query(s);
});

ours('DB-06', 'a file that was made for a backup that did not begin is gone again', async s => {
  await disks(s);
  await s.refused(DRIVE, arguments_(s, 'r', 't', { sync: 'bitmap' }));
  await s.refused('transaction', { actions: [{ type: DRIVE, data: arguments_(s, 'r', 't') }, ABORT] });
  expect(existsSync(s.path('t'))).toBe(false);
  const { stdout } = await s.peek('ls', '-A', s.folder);
  expect(stdout).not.toMatch(/tidemark-\d/);
});
