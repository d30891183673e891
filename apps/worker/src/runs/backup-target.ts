// Where a backup's data goes: a partial backup of the repository, which its storage node forgets when it restarts.
import type { Backup } from '@tidemark/catalog';
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
    return { output: { ...(await prepare(context, await parentOf(context), also)), also } };
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

/** Good to repeat: gives the target as it is, or a new one where the repository has lost it. */
export async function prepare(
  context: Context,
  parentBackupId: string,
  also: readonly Range[] = alsoOf(context),
): Promise<Prepared> {
  const { request, storageNodes, catalog, call, stop } = context;
  const { backupId, repositoryId, volumeId, compression } = request;
  const { sizeBytes } = await catalog.backups.get(backupId);
  const expectedBytes = await expectBytes(context, { isFull: parentBackupId === '', sizeBytes, also });
  const { repositories } = await storageNodes.ofRepository(repositoryId);
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
export async function parentOf({ request, catalog }: Context): Promise<string> {
  const backup = await catalog.backups.get(request.backupId);
  return hasFallenBack(backup, request.parentBackupId) ? '' : (request.parentBackupId ?? '');
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

/** What the copy is going to take at most, so that a repository without room says so before it begins. */
async function expectBytes(
  { request, storageNodes, stop }: Context,
  { isFull, sizeBytes, also }: { isFull: boolean; sizeBytes: number; also: readonly Range[] },
): Promise<number> {
  const { volumeId, baseCheckpointId } = request;
  const { volumes } = await storageNodes.ofVolume(volumeId);
  const volume = await volumes.getVolume({ volumeId }, { signal: stop });
  if (isFull) return Math.min(volume.allocatedBytes, sizeBytes);
  const base = volume.checkpoints.find(({ checkpointId }) => checkpointId === baseCheckpointId);
  const resentBytes = also.reduce((bytes, { length }) => bytes + length, 0);
  // What has changed may be zeroes by now: no more than all that there is.
  return Math.min((base?.changedSinceBytes ?? 0) + resentBytes, volume.allocatedBytes);
}
