// A volume on its way from another storage node to this one: image and bitmaps are written to exports of unguessable
// names. Until it is accepted its folder is marked as unfinished, and the next start removes it.
import { type Attachment, type BlockNode, PERMISSION } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { unguessableName } from '../repository/partial-file.ts';
import { type ParcelItem, parcelBytesMax, receiveBitmaps } from './bitmap-parcel.ts';
import { IntentFile } from './intent-file.ts';
import { intentRegionBytes } from './intent-tracking.ts';
import { StoredBitmaps } from './stored-bitmaps.ts';
import { Volume, type VolumeHost } from './volume.ts';
import { markFinished, markUnfinished, removeVolumeFolder } from './volume-folder.ts';
import { VolumeLayers } from './volume-layers.ts';
import { FIRST_LAYER, VolumeLayout, type VolumeRecord } from './volume-record.ts';

export interface NewArrival extends Pick<VolumeRecord, 'volumeId' | 'name' | 'sizeBytes' | 'format'> {
  /** The run that brings it. */
  readonly madeBy: string;
}

export interface ArrivalAnswer {
  readonly imageUri: string;
  readonly bitmapsUri: string;
}

interface Parts {
  readonly layers: VolumeLayers;
  readonly image: Attachment;
  readonly bitmaps: BlockNode;
}

export class ArrivingVolume {
  readonly arrival: NewArrival;
  readonly answer: ArrivalAnswer;
  readonly #host: VolumeHost;
  readonly #parts: Parts;
  readonly #names: readonly string[];

  private constructor(host: VolumeHost, arrival: NewArrival, parts: Parts) {
    this.#host = host;
    this.arrival = arrival;
    this.#parts = parts;
    const [image, bitmaps] = [unguessableName(), unguessableName()];
    this.#names = [image, bitmaps];
    this.answer = {
      imageUri: host.exports.add({ name: image, listed: false, node: parts.image }),
      bitmapsUri: host.exports.add({ name: bitmaps, listed: false, node: parts.bitmaps }),
    };
  }

  /** What fails leaves nothing. */
  static async make(host: VolumeHost, arrival: NewArrival): Promise<ArrivingVolume> {
    const { volumeId, sizeBytes, format } = arrival;
    const { store, graph } = host;
    const layout = new VolumeLayout(volumeId);
    const layer = { layerId: FIRST_LAYER, format };
    let layers: VolumeLayers | undefined;
    try {
      await markUnfinished(store, layout);
      await store.makeFolder(layout.bitmaps);
      await VolumeLayers.create(host, volumeId, { layer, sizeBytes });
      const file = store.path(layout.arrivingBitmaps);
      await store.files.createImage(file, { format: 'raw', sizeBytes: parcelBytesMax(sizeBytes) });
      layers = await VolumeLayers.open(host, volumeId, { layers: [layer], sizeBytes });
      const uses = PERMISSION.consistentRead | PERMISSION.write;
      const image = graph.attach(layers.top.name, { user: `arrival of volume '${arrival.name}'`, uses });
      return new ArrivingVolume(host, arrival, { layers, image, bitmaps: await store.files.openImage(file) });
    } catch (error) {
      await layers?.close();
      await removeVolumeFolder(store, layout);
      throw error;
    }
  }

  /**
   * All is here: durable, and a volume that waits to be opened. Throws `image-invalid` where a bitmap is not whole.
   * It takes nothing more then, and is to be discarded.
   */
  async accept(items: readonly ParcelItem[], createdAtMs: number): Promise<Volume> {
    const { store, intentRegionBytesMin } = this.#host;
    const { volumeId, sizeBytes } = this.arrival;
    const layout = new VolumeLayout(volumeId);
    const files = new StoredBitmaps(store, volumeId);
    await receiveBitmaps(this.#parts.bitmaps, { volumeId, sizeBytes, items }, (id, { bits, grownBytes }) =>
      files.save(id, bits, grownBytes),
    );
    await this.#parts.image.flush();
    await this.close();
    const checkpoints = items.map(({ checkpoint }) => checkpoint);
    if (checkpoints.length > 0) {
      const regionBytes = intentRegionBytes(sizeBytes, intentRegionBytesMin);
      await (await IntentFile.create(store, layout.intents, { volumeId, sizeBytes, regionBytes })).close();
    }
    const empty = { layers: [], snapshots: [] };
    const record = {
      version: 2,
      ...this.arrival,
      createdAtMs,
      state: 'arrived',
      checkpoints,
      ...empty,
    } as const;
    // First: a crash after the record leaves the volume, and nothing beside it.
    await store.remove(layout.arrivingBitmaps);
    await store.write(layout.record, { ...record });
    await markFinished(store, layout);
    return Volume.open(this.#host, { ...record, checkpoints, layers: [], snapshots: [] });
  }

  /** Nobody can write to it any more. Good to repeat. */
  async close(): Promise<void> {
    for (const name of this.#names) await this.#host.exports.remove(name, { mode: 'hard' });
    await this.#parts.image.close();
    await this.#parts.bitmaps.close();
    if (this.#host.graph.has(this.#parts.layers.top.name)) await this.#parts.layers.close();
  }

  /** Nothing of it stays. */
  async discard(): Promise<void> {
    await this.close();
    await removeVolumeFolder(this.#host.store, new VolumeLayout(this.arrival.volumeId));
  }
}

/** Throws `storage-full`. */
export function assertRoom({ name }: NewArrival, neededBytes: number, availableBytes: number): void {
  if (neededBytes <= availableBytes) return;
  const text =
    `Volume '${name}' takes ${neededBytes} bytes, and this storage node has ${availableBytes} left. ` +
    'Make room, or choose another storage node.';
  throw new TidemarkError('storage-full', text);
}
