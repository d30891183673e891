// Where a backup's data goes: a partial backup of the repository, which its storage node forgets when it restarts.
import type { Backup } from '@tidemark/catalog';
import type { Volume } from '@tidemark/proto';
import { z } from 'zod';
import type { RunContext, Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

type Context = RunContext<'backup'>;

const prepared = z.object({ uri: z.string(), sumsUri: z.string().default('') });
export type Prepared = z.output<typeof prepared>;

const range = z.object({ offset: z.number(), length: z.number() });
type Range = z.output<typeof range>;
/** Kept before the start, which is answered as before: damage that is found later is the next backup's to send. */
const chosen = z.object({ also: z.array(range).default([]) });

export const PREPARE_TARGET = 'prepare-target';

export const prepareTarget: Step<'backup'> = {
  name: PREPARE_TARGET,
  async run(context) {
    const { request, catalog } = context;
    const { parentBackupId: parent, group } = request;
    // The moment of a group has what its group asked for.
    const found = group?.also ?? (parent === null ? [] : await catalog.backupDamage.ofChain(parent));
    const also = found.map(({ offset, length }) => ({ offset, length }));
    return { output: { ...(await prepare(context, { also })), also } };
  },
  // `backup-not-usable`: it was published, and only the answer got lost; it is whole, and stays.
  undo: context => tolerate(['backup-not-usable'], discardTarget(context, `undo-${PREPARE_TARGET}`)),
};

/** What is known to be damaged in the parent and in what that stands on. */
export function alsoOf(context: Context): Range[] {
  return context.findOutput(PREPARE_TARGET, chosen)?.also ?? [];
}

export function preparedTarget(context: Context): Prepared | undefined {
  return context.findOutput(PREPARE_TARGET, prepared);
}

/** The one that the step before has prepared in this attempt; the repository's host may have restarted since. */
export function justPrepared(context: Context): Prepared | undefined {
  return context.isJustDone(PREPARE_TARGET) ? preparedTarget(context) : undefined;
}

interface Wanted {
  /** A full one, whatever was asked for; default: as the backup is now. */
  readonly isFull?: boolean;
  readonly also?: readonly Range[];
}

/** Good to repeat: gives the target as it is, or a new one where the repository has lost it. */
export async function prepare(
  context: Context,
  { isFull = false, also = alsoOf(context) }: Wanted = {},
): Promise<Prepared> {
  const { request, storageNodes, catalog, call, stop } = context;
  const { backupId, repositoryId, volumeId, compression } = request;
  const [backup, volume, { repositories }] = await Promise.all([
    catalog.backups.get(backupId),
    volumeNow(context),
    storageNodes.ofRepository(repositoryId),
  ]);
  const { sizeBytes } = backup;
  const parentBackupId = isFull ? '' : parentOf(request, backup);
  const { baseCheckpointId } = request;
  const copy = { isFull: parentBackupId === '', baseCheckpointId, sizeBytes, also };
  const expectedBytes = expectBytes(volume, copy);
  const wanted = { backupId, repositoryId, volumeId, sizeBytes, parentBackupId, expectedBytes };
  const step = call(parentBackupId === '' ? 'prepare-target-full' : PREPARE_TARGET);
  const prepareBackup = repositories.prepareBackup(
    { step, ...wanted, compression: compression ?? '' },
    { signal: stop },
  );
  const { uri, sumsUri } = await prepareBackup;
  return { uri, sumsUri };
}

/** Of the backup as it is now: one that has fallen back to full has none. Empty: none. */
function parentOf({ parentBackupId }: Context['request'], backup: Backup): string {
  return hasFallenBack(backup, parentBackupId) ? '' : (parentBackupId ?? '');
}

export function hasFallenBack({ kind }: Pick<Backup, 'kind'>, parentBackupId: string | null): boolean {
  return parentBackupId !== null && kind === 'full';
}

export async function discardTarget(context: Context, step: string): Promise<void> {
  const { request, storageNodes, call, stop } = context;
  const { repositories } = await storageNodes.ofRepository(request.repositoryId);
  const { repositoryId, backupId } = request;
  const discard = repositories.discardBackup({ step: call(step), repositoryId, backupId }, { signal: stop });
  await tolerate(['backup-not-found', 'repository-not-found'], discard);
}

async function volumeNow({ request, storageNodes, stop }: Context): Promise<Volume> {
  const { volumeId } = request;
  const { volumes } = await storageNodes.ofVolume(volumeId);
  return volumes.getVolume({ volumeId }, { signal: stop });
}

/** What the copy is going to take at most, so that a repository without room says so before it begins. */
function expectBytes(
  { allocatedBytes, checkpoints }: Volume,
  copy: { isFull: boolean; baseCheckpointId: string | null; sizeBytes: number; also: readonly Range[] },
): number {
  if (copy.isFull) return Math.min(allocatedBytes, copy.sizeBytes);
  const base = checkpoints.find(({ checkpointId }) => checkpointId === copy.baseCheckpointId);
  const resentBytes = copy.also.reduce((bytes, { length }) => bytes + length, 0);
  // What has changed may be zeroes by now: no more than all that there is.
  return Math.min((base?.changedSinceBytes ?? 0) + resentBytes, allocatedBytes);
}
