// The images of one volume: the one its guest writes to on top, and below it those of its snapshots, each the
// backing image of the next. Which images there are, and in which order, is what the volume's record says; the
// names in their headers follow it, for tools that look at the files.
//
// Above them stands the volume's own block node, with the checkpoints' bitmaps and whatever copies before writes:
// it stays when the images below it change.
import path from 'node:path';
import {
  Anchor,
  anchorPermissions,
  type BackingPointer,
  type BlockGraph,
  type GraphNode,
  Qcow2Image,
  rewriteBackingPointer,
  runTransaction,
  systemClock,
  takeSnapshot,
} from '@tidemark/engine';
import { NbdDriver } from '../exports/nbd-driver.ts';
import { ReconnectingNode } from '../exports/reconnecting-node.ts';
import type { StateStore } from '../host/state-store.ts';
import { LAYER_L2_CACHE_BYTES, NBD_CONNECT_TIMEOUT_MS } from '../limits.ts';
import { type LayerRecord, type SourceRecord, VolumeLayout, type VolumeRecord } from './volume-record.ts';

export interface LayersHost {
  readonly graph: BlockGraph;
  readonly store: StateStore;
}

export class VolumeLayers {
  /** What guests and backups see. */
  readonly top: GraphNode;
  /** Behind it: where every change of the images comes by. */
  readonly anchor: Anchor;
  readonly #host: LayersHost;
  readonly #volumeId: string;
  /** Below the first image. */
  readonly #source: ReconnectingNode | undefined;

  private constructor(
    host: LayersHost,
    volumeId: string,
    nodes: Pick<VolumeLayers, 'top' | 'anchor'> & { source: ReconnectingNode | undefined },
  ) {
    this.#host = host;
    this.#volumeId = volumeId;
    this.top = nodes.top;
    this.anchor = nodes.anchor;
    this.#source = nodes.source;
  }

  /** Makes the first image, durably. */
  static async create(
    host: LayersHost,
    volumeId: string,
    {
      layer,
      sizeBytes,
      source,
    }: { layer: LayerRecord; sizeBytes: number; source?: SourceRecord | undefined },
  ): Promise<void> {
    const { store } = host;
    const file = new VolumeLayout(volumeId).layer(layer);
    const backing = source && { path: source.uri, format: 'raw' as const };
    const { format } = layer;
    await store.files.createImage(store.path(file), { format, sizeBytes, ...(backing && { backing }) });
    // A record without its image is worse than an image without a record.
    await store.keepName(file);
  }

  /**
   * Opens all, the lowest first; what fails leaves nothing open. The backup that the first image stands on may be out
   * of reach: who reads from it waits.
   */
  static async open(
    host: LayersHost,
    volumeId: string,
    {
      layers,
      source,
      sizeBytes,
    }: Pick<VolumeRecord, 'source' | 'sizeBytes'> & { layers: readonly LayerRecord[] },
  ): Promise<VolumeLayers> {
    const { graph } = host;
    const driver = source && connectSource(source, sizeBytes);
    let below: GraphNode | undefined;
    try {
      if (driver) below = graph.add({ name: sourceNodeName(volumeId), owner: 'parents' }, () => driver);
      for (const layer of layers) below = await openLayer(host, volumeId, { layer, below: below?.name });
      const name = `volume-${volumeId}`;
      const children = { file: below!.name };
      let anchor: Anchor | undefined;
      const top = graph.add({ name, children, permissions: anchorPermissions }, ({ file }) => {
        anchor = new Anchor(file!);
        return anchor;
      });
      return new VolumeLayers(host, volumeId, { top, anchor: anchor!, source: driver });
    } catch (error) {
      if (below !== undefined) await graph.release(below);
      throw error;
    }
  }

  node({ layerId }: LayerRecord): GraphNode {
    return this.#host.graph.get(nodeName(this.#volumeId, layerId));
  }

  async allocatedBytes(layers: readonly LayerRecord[]): Promise<number> {
    // Images that a commit has just taken out of the chain are in the record until that says so.
    const there = layers.filter(({ layerId }) => this.#host.graph.has(nodeName(this.#volumeId, layerId)));
    const sizes = await Promise.all(there.map(layer => this.node(layer).allocatedBytes()));
    return sizes.reduce((sum, bytes) => sum + bytes, 0);
  }

  /**
   * Puts a new, empty image above `active`, whose contents are from then on those of one instant. `record` is
   * called with guests at rest, everything they wrote on stable storage, and nothing left that could fail: once it
   * has resolved the new image counts. What fails leaves neither file nor block node, and a file that was there alone.
   */
  async putAbove(active: LayerRecord, layer: LayerRecord, record: () => Promise<void>): Promise<void> {
    const { store } = this.#host;
    const layout = new VolumeLayout(this.#volumeId);
    const file = layout.layer(layer);
    const backing = { path: path.basename(layout.layer(active)), format: active.format };
    const { sizeBytes } = this.top;
    await store.files.createImage(store.path(file), { format: 'qcow2', sizeBytes, backing });
    let overlay: GraphNode | undefined;
    try {
      await store.keepName(file);
      overlay = await openLayer(this.#host, this.#volumeId, { layer, below: undefined });
      // Most of it now, so that guests stand still for less.
      await this.top.flush();
      await this.#insert(this.node(active), overlay, record);
    } catch (error) {
      if (overlay !== undefined) await this.#host.graph.release(overlay).catch(() => undefined);
      await store.remove(file);
      throw error;
    }
  }

  #insert(base: GraphNode, overlay: GraphNode, record: () => Promise<void>): Promise<void> {
    const action = takeSnapshot({
      kind: 'blockdev-snapshot',
      base: () => base,
      overlay: async () => {
        await base.flush();
        return {
          node: overlay,
          canHaveBacking: true,
          reopen: async () => {
            const image = await reopenOverBacking(overlay);
            await record();
            return image;
          },
        };
      },
    });
    return runTransaction(this.#host.graph, [action]);
  }

  /** Who waits for the backup's host fails. */
  abandonSource(): void {
    this.#source?.abandon();
  }

  /** The same for those who wait now; whoever comes later waits again. */
  cancelSourceReads(): void {
    this.#source?.cancelInFlight();
  }

  async close(): Promise<void> {
    await this.#host.graph.remove(this.top.name);
  }
}

/** Guests wait for the backup's host, however long: an error would be their file systems' end. */
function connectSource({ uri }: SourceRecord, sizeBytes: number): ReconnectingNode {
  const connect = (signal: AbortSignal) =>
    NbdDriver.open(uri, {
      readOnly: true,
      dataWhereUnknown: true,
      signal: AbortSignal.any([signal, AbortSignal.timeout(NBD_CONNECT_TIMEOUT_MS)]),
    });
  return ReconnectingNode.awaiting(sizeBytes, { connect, reconnectDelayMs: Infinity, clock: systemClock });
}

/** Of the block node that shows the backup of an instant restore. */
export function sourceNodeName(volumeId: string): string {
  return `volume-${volumeId}-source`;
}

function nodeName(volumeId: string, layerId: string): string {
  return `volume-${volumeId}-${layerId}`;
}

interface OpenLayer {
  readonly layer: LayerRecord;
  /** The block node that it stands on. */
  readonly below: string | undefined;
}

/** All are opened for writing: who may write is for the block graph to say. */
async function openLayer(
  { graph, store }: LayersHost,
  volumeId: string,
  { layer, below }: OpenLayer,
): Promise<GraphNode> {
  const name = nodeName(volumeId, layer.layerId);
  const file = await store.files.openImage(store.path(new VolumeLayout(volumeId).layer(layer)));
  if (layer.format === 'raw') return graph.add({ name, owner: 'parents' }, () => file);
  const fileNode = graph.add({ name: `${name}-file`, owner: 'parents' }, () => file);
  try {
    const children = { file: fileNode.name, ...(below !== undefined && { backing: below }) };
    let opened: Qcow2Image | undefined;
    const node = await graph.open(
      { name, owner: 'parents', children },
      async ({ children: { file: image, backing } }) => {
        opened = await Qcow2Image.open(image!, imageOptions(backing));
        return opened;
      },
    );
    images.set(node, opened!);
    return node;
  } catch (error) {
    await graph.release(fileNode);
    throw error;
  }
}

/** What is behind the block node of a qcow2 image. */
const images = new WeakMap<GraphNode, Qcow2Image>();

/** As ChainAccess.repoint. A raw image is the file itself here. */
export async function repointLayer(
  node: GraphNode,
  pointer: BackingPointer | undefined,
): Promise<Qcow2Image> {
  // What guests wrote is found through tables that may be in memory alone: the file has to have them first.
  await images.get(node)!.settle();
  const named = pointer?.format === 'file' ? { ...pointer, format: 'raw' } : pointer;
  await rewriteBackingPointer(node.children.find(edge => edge.role === 'file')!, named);
  return reopenOverBacking(node);
}

async function reopenOverBacking(node: GraphNode): Promise<Qcow2Image> {
  const [file, backing] = ['file', 'backing'].map(role => node.children.find(edge => edge.role === role));
  const image = await Qcow2Image.open(file!, imageOptions(backing));
  images.set(node, image);
  return image;
}

/** The lowest image caches as much as any; of those above there may be many. */
function imageOptions(backing: GraphNode['children'][number] | undefined) {
  if (backing === undefined) return { keepChildren: true, ignoreBacking: true };
  return { keepChildren: true, l2CacheBytes: LAYER_L2_CACHE_BYTES, backing };
}
