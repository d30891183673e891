// The image of a block node that has internal snapshots.
import { EngineError, type GraphNode, Qcow2Image } from '@tidemark/engine';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';

type Snapshot = Awaited<ReturnType<Qcow2Image['snapshots']>>[number];

/** Of the node, or of the one that it shows as it is; undefined where there is no place for snapshots. */
export function snapshotImageOf(
  node: GraphNode,
  daemon: Pick<StorageDaemon, 'blockdevs'>,
): Qcow2Image | undefined {
  const driver = daemon.blockdevs.get(node)?.driver;
  if (driver instanceof Qcow2Image) return driver;
  const file = node.driver === 'raw' ? node.children.find(edge => edge.role === 'file')?.node : undefined;
  return file && snapshotImageOf(file, daemon);
}

/** Deletes exactly that one, though another may have its id as a name. Rejects as the image does. */
export async function deleteExactly(image: Qcow2Image, { id, name }: Snapshot): Promise<void> {
  const all = await image.snapshots();
  const found = (key: string) => all.find(one => one.name === key) ?? all.find(one => one.id === key);
  const key = [name, id].find(candidate => found(candidate)?.id === id);
  if (key === undefined) {
    const text = `Snapshot '${name}' cannot be told from others by name or id`;
    throw new EngineError('conflict', text, { hint: 'Delete the other one of that name first.' });
  }
  await image.deleteSnapshot(key);
}
