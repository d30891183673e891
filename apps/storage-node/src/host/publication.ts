// What has to hold of a backup's files before it is listed.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { type BlockNode, openImage } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { CLUSTER_BYTES, SUMS_ALGORITHM } from '../sums/sums-format.ts';
import type { ManifestSums } from './manifest.ts';

interface PublicationPlan {
  readonly backupId: string;
  readonly sizeBytes: number;
}

/** Rejects with `image-invalid`. */
export async function verifyPartial(
  paths: { image: string; sums: string },
  { plan }: { plan: PublicationPlan; hasSums: boolean },
): Promise<void> {
  let image: BlockNode;
  try {
    image = await openImage(paths.image, { readOnly: true, format: 'qcow2' });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw invalid(plan, `was written but does not open (${text})`, error);
  }
  const { sizeBytes } = image;
  await image.close();
  if (sizeBytes === plan.sizeBytes) return;
  throw invalid(plan, `has ${sizeBytes} bytes instead of ${plan.sizeBytes}`);
}

/** Of a file that has its final name. Rejects with the system's error. */
export async function sumsOfManifest(sumsPath: string): Promise<ManifestSums> {
  return {
    file: path.basename(sumsPath),
    algorithm: SUMS_ALGORITHM,
    clusterBytes: CLUSTER_BYTES,
    digest: await fileDigest(sumsPath),
  };
}

/** SHA-256 of a whole file, in hexadecimal. */
export async function fileDigest(filePath: string): Promise<string> {
  const digest = createHash('sha256');
  for await (const chunk of createReadStream(filePath)) digest.update(chunk as Buffer);
  return digest.digest('hex');
}

function invalid({ backupId }: PublicationPlan, state: string, cause?: unknown): TidemarkError {
  return new TidemarkError(
    'image-invalid',
    `Backup ${backupId} ${state}. Discard it and run the backup again.`,
    cause,
  );
}
