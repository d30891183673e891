// What has to hold of a backup's files before it is listed: the image is sound, and holds what was sent.
import path from 'node:path';
import { checkQcow2, EngineError, FileNode, openImage, Qcow2Image } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { compareWithSums } from '../sums/compare-with-sums.ts';
import { sumsDigest } from '../sums/sums-digest.ts';
import { CLUSTER_BYTES, recordsOf, SUMS_ALGORITHM } from '../sums/sums-format.ts';
import { SumsReader } from '../sums/sums-reader.ts';
import type { Manifest, ManifestSums } from './manifest.ts';

/** What only the end of the copying tells. */
export interface WholeCopy {
  readonly backupId: string;
  /** The target that the whole copy went to; without it that is not compared. */
  readonly targetUri?: string;
}

export type Publication = WholeCopy &
  Pick<
    Manifest,
    | 'backupId'
    | 'volumeName'
    | 'checkpointId'
    | 'checkpointName'
    | 'pointInTimeMs'
    | 'kind'
    | 'reason'
    | 'replicaOfBackupId'
  >;

/** Called between steps with the bytes of the disk that were looked at, and those that were read. */
export type Pace = (step: { seenBytes: number; readBytes: number }) => Promise<void>;

interface PublicationPlan {
  readonly backupId: string;
  readonly sizeBytes: number;
}

/**
 * Rejects with `image-invalid`, naming the first place that is wrong, with what `pace` rejects with, and with
 * `not-ready` once the signal is aborted.
 */
export async function verifyPartial(
  paths: { image: string; sums: string },
  options: { plan: PublicationPlan; hasSums: boolean; pace: Pace; signal: AbortSignal },
): Promise<void> {
  const { plan, hasSums, pace, signal } = options;
  await using held = new AsyncDisposableStack();
  const open = async <T extends { close(): Promise<void> }>(opening: Promise<T>): Promise<T> =>
    held.adopt(await opening, node => node.close());
  try {
    const image = await open(openLayer(paths.image));
    if (image.sizeBytes !== plan.sizeBytes) {
      throw invalid(plan, `has ${image.sizeBytes} bytes instead of ${plan.sizeBytes}`);
    }
    if (hasSums) {
      const sums = await open(FileNode.open(paths.sums, { readOnly: true }));
      await compareWithSums({
        image,
        records: new SumsReader(sums, recordsOf(plan.sizeBytes)),
        onFault: ({ kind, offset, message }) => {
          throw invalid(plan, `was not stored as it was sent: at ${offset}, ${kind}: ${message}`);
        },
        pace: step => {
          if (signal.aborted) throw stopping(plan);
          return pace(step);
        },
      });
    }
    const file = await open(FileNode.open(paths.image, { readOnly: true }));
    const { corruptions, checkErrors, findings } = await checkQcow2(file);
    if (corruptions + checkErrors > 0) throw invalid(plan, `has a damaged image: ${findings[0]}`);
    await open(openImage(paths.image, { readOnly: true, format: 'qcow2' }));
  } catch (error) {
    if (error instanceof TidemarkError || isCancelled(error)) throw error;
    const text = error instanceof Error ? error.message : String(error);
    throw invalid(plan, `was written but cannot be read (${text})`, error);
  }
}

/** One image without those below it. Rejects as opening an image does; nothing stays open then. */
export async function openLayer(imagePath: string): Promise<Qcow2Image> {
  const file = await FileNode.open(imagePath, { readOnly: true });
  try {
    return await Qcow2Image.open(file, { readOnly: true, ignoreBacking: true });
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Of a file that has its final name. Rejects with the system's error. */
export async function sumsOfManifest(sumsPath: string): Promise<ManifestSums> {
  return {
    file: path.basename(sumsPath),
    algorithm: SUMS_ALGORITHM,
    clusterBytes: CLUSTER_BYTES,
    digest: await digestOf(sumsPath),
  };
}

async function digestOf(sumsPath: string): Promise<string> {
  const file = await FileNode.open(sumsPath, { readOnly: true });
  try {
    return await sumsDigest(file);
  } finally {
    await file.close();
  }
}

function isCancelled(error: unknown): boolean {
  return error instanceof EngineError && error.kind === 'cancelled';
}

function invalid({ backupId }: PublicationPlan, state: string, cause?: unknown): TidemarkError {
  return new TidemarkError(
    'image-invalid',
    `Backup ${backupId} ${state}. Discard it and run the backup again.`,
    cause,
  );
}

function stopping({ backupId }: PublicationPlan): TidemarkError {
  const text = `Backup ${backupId} was not published: its storage node is stopping. Run the backup again.`;
  return new TidemarkError('not-ready', text);
}

export function notBeingWritten(backupId: string, title: string): TidemarkError {
  return new TidemarkError(
    'backup-not-found',
    `Backup ${backupId} is not being written to ${title}: it was never prepared, or the storage node has started ` +
      'anew since. Run the backup again.',
  );
}
