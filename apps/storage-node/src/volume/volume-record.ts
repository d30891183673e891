// What a storage node keeps of a volume on its disk, and where.
//
//   volumes/VOLUME/volume.json             the volume exists
//   volumes/VOLUME/disk.raw or disk.qcow2  its first image
//   volumes/VOLUME/layer-LAYER.qcow2       its image since a snapshot was taken
//   volumes/VOLUME/bitmaps/CHECKPOINT      bits of that checkpoint's bitmap
//   volumes/VOLUME/intents                 write-intent log: where the recording bitmap's file may miss changes
//   volumes/VOLUME/unfinished.json         it is being made or removed (volume-folder.ts)
//   volumes/VOLUME/arriving-bitmaps        bitmaps that another storage node sends (arriving-volume.ts)
//   volumes/VOLUME/clean.json              of record version 1: it was stored by an orderly stop
import { z } from 'zod';
import { DAMAGE_RANGES_MAX } from '../limits.ts';

/** The image that a volume is made with. */
export const FIRST_LAYER = 'first';

/** Names of images that a crash can leave behind begin so. */
export const LAYER_PREFIX = 'layer-';

export const VOLUMES_FOLDER = 'volumes';

const checkpointSchema = z.strictObject({
  checkpointId: z.string(),
  name: z.string(),
  createdAtMs: z.int().nonnegative(),
  granularityBytes: z.int().positive(),
  description: z.string().default(''),
  /** The backup that the volume was restored from, and holds since this checkpoint; else empty. */
  originBackupId: z.string().default(''),
});

/** The backup that a volume of an instant restore still reads from, through its first image. */
const sourceSchema = z.strictObject({
  backupId: z.string(),
  uri: z.string(),
  /** Of the job that pulls it; 0: as fast as it goes. */
  speedBytesPerSecond: z.int().nonnegative(),
  /** What could not be read of it, and is zeroes in the first image. */
  damage: z.array(z.strictObject({ offset: z.int().nonnegative(), length: z.int().positive() })),
});

const layerSchema = z.strictObject({
  layerId: z.string(),
  format: z.enum(['raw', 'qcow2']),
});

const snapshotSchema = z.strictObject({
  snapshotId: z.string(),
  name: z.string(),
  createdAtMs: z.int().nonnegative(),
  /** The image that shows it, with those below. */
  layerId: z.string(),
});

const commitSchema = z.strictObject({
  commitId: z.string(),
  topLayerId: z.string(),
  baseLayerId: z.string(),
  /** The guest writes to the top. */
  active: z.boolean(),
  /** The files of the images that are merged away go. */
  deleteFiles: z.boolean(),
});

export const volumeSchema = z.strictObject({
  /** 1: of a time without write-intent logs. */
  version: z.literal([1, 2]),
  volumeId: z.string(),
  name: z.string(),
  sizeBytes: z.int().positive(),
  format: z.enum(['raw', 'qcow2']),
  createdAtMs: z.int().nonnegative(),
  /**
   * A volume that is being restored is not complete; a restart of the storage node removes it. One that has arrived
   * from another storage node is complete, and nobody's to use before it is told.
   */
  state: z.enum(['restoring', 'arrived', 'ready']),
  /** It moves to another storage node, by this run: here it serves nobody any more. */
  sealedBy: z.string().optional(),
  /** The run that restored it, or brought it from another storage node. */
  madeBy: z.string().optional(),
  /** Oldest first; the bitmap of the last one records. */
  checkpoints: z.array(checkpointSchema),
  /** The lowest first; the guest writes to the last. None stand for the first image alone. */
  layers: z.array(layerSchema).default([]),
  /** Oldest first. */
  snapshots: z.array(snapshotSchema).default([]),
  /** Until all of it is pulled. */
  source: sourceSchema.optional(),
  /** Under way: the snapshots that it overwrites are no longer listed. */
  commit: commitSchema.optional(),
  /** The latest that has merged images: asked for again, it is not to merge more of them. */
  mergedCommitId: z.string().optional(),
  /** The images that it merged, whose files are to stay under other names. */
  keptLayers: z.array(layerSchema).optional(),
});

export const cleanSchema = z.strictObject({ version: z.literal(1), checkpointId: z.string() });

export type SourceRecord = z.infer<typeof sourceSchema>;
export type LayerRecord = z.infer<typeof layerSchema>;
export type SnapshotRecord = z.infer<typeof snapshotSchema>;
export type CommitRecord = z.infer<typeof commitSchema>;
export type CheckpointRecord = z.infer<typeof checkpointSchema>;
export type NewCheckpointRecord = z.input<typeof checkpointSchema>;
export type VolumeRecord = z.infer<typeof volumeSchema>;

/** Whether its guest may come. */
export function isServed({ state, sealedBy }: VolumeRecord): boolean {
  return state === 'ready' && sealedBy === undefined;
}

/** The images of the volume, the lowest first. */
export function layersOf({ layers, format }: VolumeRecord): readonly LayerRecord[] {
  return layers.length > 0 ? layers : [{ layerId: FIRST_LAYER, format }];
}

/** What could not be read of the source is remembered, each place once and as many as are told. */
export function withHole(record: VolumeRecord, hole: SourceRecord['damage'][number]): VolumeRecord {
  const { source } = record;
  if (source === undefined || source.damage.length >= DAMAGE_RANGES_MAX) return record;
  if (source.damage.some(({ offset }) => offset === hole.offset)) return record;
  return { ...record, source: { ...source, damage: [...source.damage, hole] } };
}

export class VolumeLayout {
  readonly folder: string;
  readonly record: string;
  readonly clean: string;
  readonly intents: string;
  readonly unfinished: string;
  readonly bitmaps: string;
  readonly arrivingBitmaps: string;

  constructor(volumeId: string) {
    this.folder = `${VOLUMES_FOLDER}/${volumeId}`;
    this.record = `${this.folder}/volume.json`;
    this.clean = `${this.folder}/clean.json`;
    this.unfinished = `${this.folder}/unfinished.json`;
    this.intents = `${this.folder}/intents`;
    this.bitmaps = `${this.folder}/bitmaps`;
    this.arrivingBitmaps = `${this.folder}/arriving-bitmaps`;
  }

  layer({ layerId, format }: LayerRecord): string {
    const name = layerId === FIRST_LAYER ? 'disk' : `${LAYER_PREFIX}${layerId}`;
    return `${this.folder}/${name}.${format}`;
  }

  /** Of an image that was merged into one below, and whose file was to stay. */
  mergedLayer({ layerId, format }: LayerRecord): string {
    return `${this.folder}/merged-${layerId}.${format}`;
  }

  bitmap(checkpointId: string): string {
    return `${this.bitmaps}/${checkpointId}`;
  }
}
