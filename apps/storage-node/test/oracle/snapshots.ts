// What scenarios of external snapshots share: disks, the actions, and looks at block nodes and images.
import type { Session } from './session.ts';

export const SNAPSHOT = 'blockdev-snapshot';
export const SYNC = 'blockdev-snapshot-sync';

export interface NodeFacts {
  readonly 'node-name': string;
  readonly drv: string;
  readonly image: { 'virtual-size'?: number };
}

/** Traced, but for the length of files: how far an image grows ahead of its use is the daemon's own business. */
export async function query(s: Session, flat = false): Promise<NodeFacts[]> {
  const nodes = await s.ask<NodeFacts[]>('query-named-block-nodes', { flat });
  for (const { drv, image } of nodes) if (drv === 'file') delete image['virtual-size'];
  s.note('block nodes', nodes);
  return nodes;
}

/** Traced, but for the space on the disk. */
export async function info(s: Session, name: string): Promise<void> {
  const { stdout } = await s.peek('qemu-img', 'info', '-U', s.path(name));
  s.note(`info of ${name}`, stdout.replace(/^disk size: .*$/m, ''));
}

export const file = (s: Session, name: string) => ({ driver: 'file', filename: s.path(name) });
export const addRaw = (s: Session, name: string, more: object = {}) =>
  s.add({ driver: 'raw', 'node-name': name, file: file(s, name), ...more });
export const addQcow2 = (s: Session, name: string, more: object = {}) =>
  s.add({ driver: 'qcow2', 'node-name': name, file: file(s, name), ...more });
export const snapshot = (node: string, overlay: string) => ({ type: SNAPSHOT, data: { node, overlay } });
export const sync = (s: Session, node: string, name: string, more: object = {}) => ({
  'node-name': node,
  'snapshot-file': s.path(name),
  'snapshot-node-name': name,
  ...more,
});
export const syncAction = (s: Session, node: string, name: string) => ({
  type: SYNC,
  data: sync(s, node, name),
});
export const refuse = async (s: Session, command: string, args: object) =>
  (await s.refused(command, args)).desc;

/** A raw and a qcow2 disk, and empty overlays. */
export async function disks(s: Session): Promise<void> {
  await s.image('d', { format: 'raw', size: '4M' });
  for (const name of ['q', 'o', 'o2']) await s.image(name, { format: 'qcow2', size: '4M' });
  await addRaw(s, 'd');
  await addQcow2(s, 'q');
  await addQcow2(s, 'o', { backing: null });
}
