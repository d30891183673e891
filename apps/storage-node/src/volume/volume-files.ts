// Files of images that a volume's record does not name: those that must go, and those that are to be kept.
import type { StateStore } from '../host/state-store.ts';
import {
  LAYER_PREFIX,
  type LayerRecord,
  layersOf,
  VolumeLayout,
  type VolumeRecord,
} from './volume-record.ts';

/** Images that were made for a snapshot that never came to be, or whose end was not reached. */
export async function removeUnrecordedLayers(store: StateStore, record: VolumeRecord): Promise<void> {
  const layout = new VolumeLayout(record.volumeId);
  const known = new Set(layersOf(record).map(layer => layout.layer(layer)));
  for (const layer of record.keptLayers ?? []) {
    // A later image may have come by the same name.
    if (!known.has(layout.layer(layer))) await keepMerged(store, layout, layer);
  }
  for (const name of await store.list(layout.folder)) {
    const file = `${layout.folder}/${name}`;
    if (name.startsWith(LAYER_PREFIX) && !known.has(file)) await store.remove(file);
  }
}

/** Good to repeat. */
export async function keepMerged(store: StateStore, layout: VolumeLayout, layer: LayerRecord): Promise<void> {
  const file = layout.layer(layer);
  const names = await store.list(layout.folder);
  if (names.some(name => `${layout.folder}/${name}` === file)) {
    await store.publishFile(file, layout.mergedLayer(layer));
  }
}
