// External snapshots of images that keep bitmaps or snapshots of their own, or that jobs work on.
import { expect } from 'vitest';
import { ABORT, bitmapAction } from '../backup-chain.ts';
import { scenario } from '../scenario.ts';
import { addQcow2, disks, info, query, refuse, SNAPSHOT, snapshot, syncAction } from '../snapshots.ts';

scenario('SN-13', 'internal snapshots of an image are shown with it', async s => {
  await disks(s);
  for (const name of ['first', 'second']) await s.tool('qemu-img', 'snapshot', '-c', name, s.path('o2'));
  await addQcow2(s, 'o2', { 'read-only': true });
  const listed =
    await s.ask<{ 'node-name': string; image: { snapshots?: { name: string }[] } }[]>(
      'query-named-block-nodes',
    );
  const { snapshots } = listed.find(node => node['node-name'] === 'o2')!.image;
  expect(snapshots!.map(({ name }) => name)).toEqual(['first', 'second']);
  s.note(
    'snapshots',
    snapshots!.map(snapshot => ({ ...snapshot, 'date-sec': 0, 'date-nsec': 0 })),
  );
});

scenario(
  'TX-10',
  'bitmaps are handed over at a snapshot: one stays transient, one is copied, one moves',
  async s => {
    await s.image('base', { format: 'qcow2', size: '1M' });
    await addQcow2(s, 'base');
    for (const [name, persistent] of [
      ['bitmap0', false],
      ['bitmap1', true],
      ['bitmap2', true],
    ] as const) {
      await s.ok('block-dirty-bitmap-add', { node: 'base', name, persistent });
    }
    await s.io('base', 'write -P 1 0 512k');
    const into = (name: string, persistent: boolean) => [
      bitmapAction('add', { node: 'top', name, persistent }),
      bitmapAction('merge', { node: 'top', target: name, bitmaps: [{ node: 'base', name }] }),
    ];
    const actions = [
      syncAction(s, 'base', 'top'),
      ...into('bitmap0', false),
      ...into('bitmap1', true),
      ...into('bitmap2', true),
      bitmapAction('remove', { node: 'base', name: 'bitmap2' }),
    ];
    await refuse(s, 'transaction', { actions: [...actions, ABORT] });
    await s.bitmaps('base');
    await s.io('base', 'write -P 2 512k 64k');
    await s.bitmaps('base');
    await s.ok('transaction', { actions });
    await s.bitmaps('base');
    await s.bitmaps('top');
    await s.io('base', 'write -P 3 960k 64k', 'read -P 1 0 512k');
    await s.bitmaps('base');
    await s.bitmaps('top');
    await s.daemon.quit();
    for (const name of ['base', 'top']) {
      await info(s, name);
      await s.tool('qemu-img', 'check', '-q', s.path(name));
    }
  },
);

scenario('SN-15', 'an overlay and a base that keep bitmaps in their images', async s => {
  await disks(s);
  await s.tool('qemu-img', 'bitmap', '--add', s.path('o2'), 'stored');
  await addQcow2(s, 'o2', { backing: null });
  await s.ok('block-dirty-bitmap-add', { node: 'q', name: 'kept', persistent: true });
  await s.io('q', 'write -P 1 0 64k');
  await refuse(s, 'transaction', { actions: [snapshot('q', 'o2'), ABORT] });
  await s.io('q', 'write -P 2 1M 64k');
  await s.bitmaps('q');
  await s.ok(SNAPSHOT, { node: 'q', overlay: 'o2' });
  await s.io('q', 'write -P 3 2M 64k', 'read -P 1 0 64k');
  await s.bitmaps('q');
  await s.bitmaps('o2');
  await query(s);
  await s.daemon.quit();
  for (const name of ['q', 'o2']) {
    await info(s, name);
    await s.tool('qemu-img', 'check', '-q', s.path(name));
  }
});

scenario('SN-16', 'what a commit, a mirror or a stream works on gets no overlay', async s => {
  await s.image('base', { format: 'qcow2', size: '4M' });
  await s.tool('qemu-io', '-f', 'qcow2', '-c', 'write -q -P 1 0 4M', s.path('base'));
  await s.image('mid', { format: 'qcow2', backing: 'base' });
  await s.image('top', { format: 'qcow2', backing: 'mid' });
  for (const name of ['o', 't']) await s.image(name, { format: 'qcow2', size: '4M' });
  await addQcow2(s, 'base');
  await addQcow2(s, 'mid', { backing: 'base' });
  await addQcow2(s, 'top', { backing: 'mid' });
  for (const name of ['o', 't']) await addQcow2(s, name, { backing: null });
  await s.io('top', 'write -P 2 0 1M');
  const staying = { 'job-id': 'j', 'auto-finalize': false };
  for (const [command, args] of [
    ['blockdev-mirror', { device: 'top', target: 't', sync: 'full' }],
    ['block-commit', { device: 'top', 'base-node': 'base' }],
    ['block-stream', { device: 'top' }],
  ] as const) {
    await s.ok(command, { ...staying, ...args });
    await s.until('the job waits', async () => {
      const [job] = await s.ask<{ status: string }[]>('query-jobs');
      return job?.status === 'ready' || job?.status === 'pending';
    });
    for (const node of ['top', 'mid', 'base', 't']) {
      await refuse(s, 'transaction', { actions: [snapshot(node, 'o'), ABORT] });
    }
    await s.ok('block-job-cancel', { device: 'j', force: true });
    await s.jobState('j', 'null');
  }
  await s.ok(SNAPSHOT, { node: 'top', overlay: 'o' });
  await s.io('top', 'write -P 3 0 64k', 'read -P 2 64k 960k', 'read -P 1 1M 1M');
});

scenario('SN-17', 'no write is lost while overlays come above one another under a busy guest', async s => {
  await disks(s);
  const guest = await s.guest('q');
  const writes: Promise<unknown>[] = [];
  for (let layer = 1; layer <= 12; layer++) {
    for (let at = 0; at < 16; at++) {
      const place = (layer * 37 + at * 5) % 64;
      writes.push(guest.run(`write -q -P ${layer * 16 + at} ${place * 64}k 64k`));
    }
    const base = layer === 1 ? 'q' : `layer${layer - 1}`;
    await s.ok('transaction', { actions: [syncAction(s, base, `layer${layer}`)] });
  }
  await Promise.all(writes);
  const last = new Map<number, number>();
  for (let layer = 1; layer <= 12; layer++) {
    for (let at = 0; at < 16; at++) last.set((layer * 37 + at * 5) % 64, layer * 16 + at);
  }
  const reads = [...last].map(([place, pattern]) => `read -q -P ${pattern} ${place * 64}k 64k`);
  await s.io('q', ...reads, 'flush');
  await s.daemon.quit();
  for (let layer = 1; layer <= 12; layer++) await s.tool('qemu-img', 'check', '-q', s.path(`layer${layer}`));
  const again = reads.flatMap(read => ['-c', read]);
  await s.tool('qemu-io', '-r', '-f', 'qcow2', ...again, s.path('layer12'));
});
