// What the engine's jobs on chains of images do with block nodes that were opened by their options.
import path from 'node:path';
import {
  type BackingPointer,
  type BlockNode,
  type ChainAccess,
  childOf,
  EngineError,
  type GraphNode,
  rewriteBackingPointer,
} from '@tidemark/engine';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';
import { filenameOf } from './filename.ts';
import { setReadOnly } from './turn-read-only.ts';

export function chainAccess(host: StorageDaemon): ChainAccess {
  return {
    filenameOf: node => filenameOf(node, host),
    isCalled: (node, name, overlay) => isCalled(node, name, overlay, host),
    setReadOnly: (node, readOnly) => setReadOnly(node, readOnly, host),
    repoint: (overlay, pointer) => repoint(overlay, pointer, host),
  };
}

function isCalled(
  node: GraphNode,
  name: string,
  overlay: GraphNode | undefined,
  host: StorageDaemon,
): boolean {
  const filename = filenameOf(node, host);
  if (filename === name) return true;
  if (overlay === undefined || filename.startsWith('json:') || filename === '') return false;
  const folder = path.dirname(filenameOf(overlay, host));
  return path.resolve(folder, name) === path.resolve(filename);
}

/**
 * Under drain, with the `backing` edge of the overlay as it is to be: rewrites the header, and returns the driver that
 * is to be used from then on.
 */
export async function repoint(
  overlay: GraphNode,
  pointer: BackingPointer | undefined,
  host: StorageDaemon,
): Promise<BlockNode> {
  const blockdev = host.blockdevs.get(overlay);
  if (blockdev?.definition.backingName === undefined) {
    const text = `Block format '${overlay.driver}' used by node '${overlay.name}' has no backing images`;
    throw new EngineError('unsupported', text, { node: overlay.name });
  }
  const { definition, options, common, given } = blockdev;
  await definition.settle?.(blockdev);
  await rewriteBackingPointer(overlay.children.find(edge => edge.role === 'file')!, pointer);
  const { readOnly } = overlay;
  const { driver } = await definition.reopen!({ blockdev, options, readOnly, common, host });
  const backing = childOf(overlay, 'backing')?.name ?? null;
  host.blockdevs.set(overlay, { ...blockdev, driver: driver!, given: { ...given, backing } });
  return driver!;
}
