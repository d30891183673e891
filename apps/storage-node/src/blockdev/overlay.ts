// Overlays of external snapshots: block nodes that somebody has added, or files that are made and opened for it.
import { EngineError, type GraphNode, type Overlay } from '@tidemark/engine';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';
import type { Blockdev } from './blockdev-driver.ts';
import { blockdevDrivers } from './drivers.ts';
import { localPath, makeImage } from './new-image.ts';
import { openChildNode } from './open-block-node.ts';
import { decideCommon } from './options.ts';
import { turnReadOnly } from './turn-read-only.ts';

/** The block node must be there. */
export function addedOverlay(node: GraphNode, base: GraphNode, host: StorageDaemon): Overlay {
  return overlayOf(node, base, host);
}

export interface NewOverlayOptions {
  readonly filename: string;
  readonly nodeName: string;
  readonly format: string;
  /** False: the file is there, and what it says of a backing image does not count. */
  readonly create: boolean;
}

/** Makes the file, or takes one that is there, and opens it. What fails leaves nothing behind. */
export async function newOverlay(
  options: NewOverlayOptions,
  base: GraphNode,
  host: StorageDaemon,
): Promise<Overlay> {
  const { filename, format } = options;
  const file = options.create
    ? await makeImage({ filename, format, sizeBytes: base.sizeBytes, backing: base }, host)
    : undefined;
  try {
    const node = await openOverlay(options, base, host);
    const overlay = overlayOf(node, base, host);
    return {
      ...overlay,
      commit: () => void file?.keep().catch(() => undefined),
      async discard() {
        await overlay.discard?.();
        await host.graph.release(node).catch(() => undefined);
        await file?.takeBack();
      },
      async afterwards() {
        await overlay.afterwards?.();
        // Where nobody used the base, nobody uses the overlay.
        await host.graph.release(node).catch(() => undefined);
      },
    };
  } catch (error) {
    await file?.takeBack();
    throw error;
  }
}

function overlayOf(node: GraphNode, base: GraphNode, host: StorageDaemon): Overlay {
  const before = host.blockdevs.get(node);
  return {
    node,
    canHaveBacking: before?.definition.children.backing !== undefined,
    reopen: () => reopenOver(before!, base, host),
    async discard() {
      if (before !== undefined) host.blockdevs.set(node, before);
    },
    afterwards: () => turnReadOnly(base, host),
  };
}

async function reopenOver(blockdev: Blockdev, base: GraphNode, host: StorageDaemon) {
  const { node, definition, options, common, given } = blockdev;
  await definition.settle?.(blockdev);
  const { readOnly } = node;
  const { driver } = await definition.reopen!({ blockdev, options, readOnly, common, host });
  host.blockdevs.set(node, { ...blockdev, driver: driver!, given: { ...given, backing: base.name } });
  return driver!;
}

/** Opened without its backing image, with the options of the base where they are about the host's cache. */
function openOverlay(
  { filename, nodeName, format }: NewOverlayOptions,
  base: GraphNode,
  host: StorageDaemon,
): Promise<GraphNode> {
  const definition = blockdevDrivers.get(format);
  if (definition === undefined) {
    throw new EngineError('unsupported', `Unknown driver '${format}'`, { hint: "Say 'format': 'qcow2'." });
  }
  const common = host.blockdevs.get(base)?.common;
  const options = {
    driver: format,
    'node-name': nodeName,
    'read-only': false,
    discard: common?.discard ?? 'ignore',
    ...(common && { cache: { direct: common.cache.direct, 'no-flush': common.cache.noFlush } }),
    file: { driver: 'file', filename: localPath(filename) },
    ...(definition.children.backing && { backing: null }),
  };
  return openChildNode(options, host, { common: decideCommon({}), role: 'file', depth: 0 });
}
