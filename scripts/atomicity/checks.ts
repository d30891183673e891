// What has to hold when a group is decided and every host serves again.
import { randomUUID } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { NbdClient } from '@tidemark/nbd';
import type { StepContext } from '@tidemark/proto';
import type { Taken } from './group-way.ts';
import type { Host } from './host.ts';
import { FENCE_LIMIT_MS, SETTLE_MS, VOLUME_BYTES, WAIT_TOLERANCE_MS } from './limits.ts';

export interface Vault {
  readonly host: Host;
  readonly repositoryId: string;
}

export function waitFaults({ released }: Taken): string[] {
  const limitMs = FENCE_LIMIT_MS + WAIT_TOLERANCE_MS;
  const late = released.filter(({ waitMaxMs }) => waitMaxMs > limitMs);
  return late.map(({ waitMaxMs }) => `a guest waited ${waitMaxMs} ms at a fence`);
}

/** What is there of groups beside these checkpoints, in words. */
export async function leftOn(host: Host, checkpoints: readonly string[]): Promise<string[]> {
  const { volumeId } = host.volume;
  const { groups } = await host.clients.groups.listGroups({});
  const listed = (await host.clients.checkpoints.listCheckpoints({ volumeId })).checkpoints;
  const { moments } = await host.clients.jobs.listMoments({});
  // Bits are stored again and again: a file that is being written is hidden.
  const all = await readdir(host.path('volumes', volumeId, 'bitmaps'));
  const files = all.filter(name => !name.startsWith('.'));
  const scratches = await readdir(host.path('scratch')).catch(() => []);
  const faults: string[] = [];
  const differ = (found: readonly string[]) => found.toSorted().join() !== checkpoints.toSorted().join();
  if (groups.length > 0) faults.push(`group ${groups[0]!.groupId} is ${groups[0]!.state}`);
  if (differ(listed.map(({ checkpointId }) => checkpointId))) {
    faults.push(`${listed.length} checkpoints, not ${checkpoints.length}`);
  }
  if (listed.some(({ inconsistent }) => inconsistent)) faults.push('a checkpoint is not trusted');
  if (differ(files)) faults.push(`files of bitmaps: ${files}, checkpoints: ${checkpoints}`);
  if (moments.some(({ momentId }) => !checkpoints.includes(momentId))) faults.push('a moment is left');
  if (scratches.length !== moments.length) faults.push(`scratch files: ${scratches}`);
  return faults;
}

export async function hasMoment(host: Host, checkpointId: string): Promise<boolean> {
  const { moments } = await host.clients.jobs.listMoments({});
  return moments.some(({ momentId, broken }) => momentId === checkpointId && broken === '');
}

/** A volume as of the instant, by way of a backup's target on the vault. */
export async function contentsOf(
  host: Host,
  { host: vault, repositoryId }: Vault,
  checkpointId: string,
): Promise<Buffer> {
  const { volumeId } = host.volume;
  const backupId = randomUUID();
  const target = await vault.clients.repositories.prepareBackup({
    step: newStep(),
    ...{ repositoryId, backupId, volumeId, sizeBytes: VOLUME_BYTES, parentBackupId: '' },
  });
  const { jobId } = await host.clients.jobs.continueBackup({
    step: newStep(),
    ...{ volumeId, checkpointId, targetUri: target.uri, sumsUri: target.sumsUri },
  });
  let error: string | undefined;
  const signal = AbortSignal.timeout(SETTLE_MS);
  for await (const status of host.clients.watchJob({ jobId }, { signal })) error = status.error?.message;
  if (error !== undefined) throw new Error(`${host.name}: the copy failed: ${error}`);
  const client = await NbdClient.connect({ uri: target.uri });
  const contents = Buffer.alloc(VOLUME_BYTES);
  await client.read(0, contents);
  await client.disconnect();
  await vault.clients.repositories.discardBackup({ step: newStep(), repositoryId, backupId });
  return contents;
}

export async function forget(host: Host, checkpointId: string): Promise<void> {
  const { volumeId } = host.volume;
  await host.clients.jobs.releaseMoment({ step: newStep(), volumeId, momentId: checkpointId });
  await host.clients.checkpoints.deleteCheckpoint({ step: newStep(), volumeId, checkpointId });
}

export function newStep(): StepContext {
  return { runId: randomUUID(), step: 'step', leaseEpoch: 1 };
}
