// What a storage node keeps of a volume on its disk, and where.
//
//   volumes/VOLUME/volume.json             the volume exists
//   volumes/VOLUME/disk.raw or disk.qcow2  its image
//   volumes/VOLUME/bitmaps/CHECKPOINT      bits of that checkpoint's bitmap
//   volumes/VOLUME/clean.json              the recording bitmap was stored by an orderly stop
import { z } from 'zod';

export const VOLUMES_FOLDER = 'volumes';

const checkpointSchema = z.strictObject({
  checkpointId: z.string(),
  name: z.string(),
  createdAtMs: z.int().nonnegative(),
  granularityBytes: z.int().positive(),
});

export const volumeSchema = z.strictObject({
  version: z.literal(1),
  volumeId: z.string(),
  name: z.string(),
  sizeBytes: z.int().positive(),
  format: z.enum(['raw', 'qcow2']),
  createdAtMs: z.int().nonnegative(),
  /** A volume that is being restored is not complete; a restart of the storage node removes it. */
  state: z.enum(['restoring', 'ready']),
  /** Oldest first; the bitmap of the last one records. */
  checkpoints: z.array(checkpointSchema),
});

export const cleanSchema = z.strictObject({ version: z.literal(1), checkpointId: z.string() });

export type CheckpointRecord = z.infer<typeof checkpointSchema>;
export type VolumeRecord = z.infer<typeof volumeSchema>;

export class VolumeLayout {
  readonly folder: string;
  readonly record: string;
  readonly clean: string;
  readonly bitmaps: string;

  constructor(volumeId: string) {
    this.folder = `${VOLUMES_FOLDER}/${volumeId}`;
    this.record = `${this.folder}/volume.json`;
    this.clean = `${this.folder}/clean.json`;
    this.bitmaps = `${this.folder}/bitmaps`;
  }

  image(format: VolumeRecord['format']): string {
    return `${this.folder}/disk.${format}`;
  }

  bitmap(checkpointId: string): string {
    return `${this.bitmaps}/${checkpointId}`;
  }
}
