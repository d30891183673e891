// What a restore writes to, and what becomes of it afterwards: a new volume, a plain file, or a volume that is there.
// What is not complete is never seen under its final name.
import { type Bitmap, createRawFile, FileNode } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { StateStore } from '../host/state-store.ts';
import { CHECKPOINT_GRANULARITY_BYTES } from '../limits.ts';
import type { VolumeHost } from '../volume/volume.ts';
import type { VolumeRegistry } from '../volume/volume-registry.ts';
import type { JobDamage } from './job-damage.ts';
import type { RestoredFiles } from './restored-files.ts';

const FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

export interface RestoreTarget {
  /** Name of its block node. */
  readonly node: string;
  readonly isZero: boolean;
  /** Somebody's disk: others may use it meanwhile. */
  readonly isShared: boolean;
  /** Clusters that may differ from the source; undefined: all. */
  readonly candidates: (() => Bitmap) | undefined;
  /** The source is on it, but for what the damage names. */
  complete(damage: JobDamage): Promise<void>;
  discard(): Promise<void>;
}

export interface TargetHost {
  readonly graph: VolumeHost['graph'];
  readonly store: StateStore;
  readonly files: RestoredFiles;
  readonly volumes: VolumeRegistry;
  readonly now: () => number;
}

export interface NewVolumeTarget {
  readonly volumeId: string;
  readonly name: string;
  readonly format: string;
  /** Its first checkpoint; empty: none. */
  readonly checkpointId: string;
  readonly checkpointName: string;
  readonly backupId: string;
}

/** The checkpoint that a restored volume begins with: increments since then build on the backup. */
export function firstCheckpoint(target: NewVolumeTarget, nowMs: number) {
  const { checkpointId, checkpointName, backupId } = target;
  return {
    checkpointId,
    name: checkpointName,
    createdAtMs: nowMs,
    granularityBytes: CHECKPOINT_GRANULARITY_BYTES,
    originBackupId: backupId,
  };
}

export async function newVolume(
  { volumes, now }: TargetHost,
  { target, restoreId: madeBy }: { target: NewVolumeTarget; restoreId: string },
  sizeBytes: number,
): Promise<RestoreTarget> {
  const { volumeId, name, format, checkpointId } = target;
  const volume = await volumes.create({ volumeId, name, format, sizeBytes, state: 'restoring', madeBy });
  return {
    ...{ node: volume.node.name, isZero: true, isShared: false, candidates: undefined },
    async complete(damage) {
      if (checkpointId !== '') await volume.addCheckpoint(firstCheckpoint(target, now()));
      await volume.becomeReady(holesOf(damage, sizeBytes));
    },
    discard: () => volumes.delete(volumeId, madeBy),
  };
}

/** Where not all places are known, all count. */
function holesOf({ ranges, truncated }: JobDamage, sizeBytes: number) {
  return truncated ? [{ offset: 0, length: sizeBytes }] : ranges;
}

/** Throws `file-exists`. */
export async function newFile(
  { graph, store, files }: TargetHost,
  { name, restoreId }: { name: string; restoreId: string },
  sizeBytes: number,
): Promise<RestoreTarget> {
  const partial = files.partial(name);
  await files.claim(restoreId, name);
  const node = `file-${name}`;
  try {
    await createRawFile(store.path(partial), sizeBytes);
    const file = await FileNode.open(store.path(partial));
    graph.add({ name: node }, () => file);
  } catch (error) {
    await files.withdraw(restoreId);
    throw error;
  }
  return {
    ...{ node, isZero: true, isShared: false, candidates: undefined },
    async complete() {
      await graph.remove(node);
      await store.publishFile(partial, files.file(name));
    },
    async discard() {
      if (graph.has(node)) await graph.remove(node);
      await files.withdraw(restoreId);
    },
  };
}

export interface InPlaceTarget {
  readonly volumeId: string;
  readonly evenIfConnected: boolean;
  /** Whose contents the source has; empty: unknown here. */
  readonly checkpointId: string;
}

/**
 * What is written goes the way of a guest's writes, so that bitmaps, backups and snapshots see it. A job that does not
 * succeed leaves contents that are neither the old nor the new. Throws `volume-busy`, `invalid-request`.
 */
export function overVolume(
  { volumes }: TargetHost,
  target: InPlaceTarget,
  sizeBytes: number,
): Promise<RestoreTarget> {
  return volumes.inTurn(target.volumeId, async volume => {
    const { name, sizeBytes: ownBytes } = volume.record;
    if (ownBytes !== sizeBytes) {
      const text =
        `Volume '${name}' has ${ownBytes} bytes and the backup has ${sizeBytes}: it cannot be restored in place. ` +
        'Restore it to a new volume.';
      throw new TidemarkError('invalid-request', text);
    }
    await volume.beginOverwriting('a restore in place', target);
    const { chain, node } = volume;
    const isKnown = chain.trusted().some(({ checkpointId }) => checkpointId === target.checkpointId);
    const end = async () => volume.endOverwriting();
    return {
      ...{ node: node.name, isZero: false, isShared: true },
      candidates: isKnown ? () => chain.changedSince(target.checkpointId) : undefined,
      complete: end,
      discard: end,
    };
  });
}

export function checkFileName(name: string): void {
  if (FILE_NAME.test(name)) return;
  throw new TidemarkError(
    'invalid-name',
    `'${name}' is not a file name: use letters, digits, dots, dashes and underscores, at most 128, no folder.`,
  );
}
