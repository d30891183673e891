// Bitmap audits: what bitmaps call unchanged, compared with the last backup.
import { z } from 'zod';
import { bytesField, ref } from './common.ts';

/** 64 MiB: a second's work, and each audit chooses anew. */
const SAMPLE_BYTES_DEFAULT = 67_108_864;

export const auditVolumeSchema = z
  .strictObject({
    repository: ref('repository whose newest backup is compared with')
      .optional()
      .meta({ description: 'Whose newest backup is compared with; the newest of all unless given.' }),
    sampleBytes: bytesField
      .default(SAMPLE_BYTES_DEFAULT)
      .meta({ description: 'How much of what is called unchanged is read, by chance; 0: all of it.' }),
  })
  .meta({ id: 'AuditVolume', examples: [{ sampleBytes: 1_073_741_824 }] });

export type AuditVolume = z.output<typeof auditVolumeSchema>;
