// Which granules of a bitmap are dirty, as any NBD client can see it; the same way on both sides.
import type { Session } from './session.ts';

/** Dirty granules as runs, such as `0-1 14-16`; of a disabled copy, since an export holds its bitmap. */
export async function dirtySet(s: Session, node: string, bitmap: string): Promise<string> {
  const copy = `copy of ${bitmap}`;
  const granularity = (await s.bitmap(node, bitmap)).granularity;
  await s.ask('transaction', {
    actions: [
      { type: 'block-dirty-bitmap-add', data: { node, name: copy, granularity, disabled: true } },
      { type: 'block-dirty-bitmap-merge', data: { node, target: copy, bitmaps: [bitmap] } },
    ],
  });
  await s.nbdSocket();
  const id = 'bitmap-export';
  await s.ask('block-export-add', { type: 'nbd', id, name: id, 'node-name': node, bitmaps: [copy] });
  const runs = await s.map(id, `qemu:dirty-bitmap:${copy}`);
  await s.ask('block-export-del', { id, mode: 'hard' });
  await s.event('BLOCK_EXPORT_DELETED', { id });
  await s.ask('block-dirty-bitmap-remove', { node, name: copy });
  return runs
    .filter(([, , flags]) => (flags & 1) === 1)
    .map(([offset, length]) => formatRun(offset / granularity, Math.ceil((offset + length) / granularity)))
    .join(' ');
}

function formatRun(first: number, end: number): string {
  return end - first === 1 ? `${first}` : `${first}-${end - 1}`;
}
