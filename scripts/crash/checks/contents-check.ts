// After a round: what the guests wrote is there, every backup holds its point in time, and every restore its backup.
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { SeededRandom } from '../../../packages/engine/src/testing/seeded-random.ts';
import { readExport, readImage } from '../contents.ts';
import { type Contents, describeFaults } from '../disk-model.ts';
import { type Disk, MIXED, type World } from '../world.ts';

interface BackupJson {
  readonly id: string;
  readonly checkpoint: string;
  readonly state: string;
  readonly volumeId: string;
  readonly repositoryId: string;
  readonly replicaOfId: string | null;
}

export interface Findings {
  readonly faults: string[];
  /** Disks and backups that were read, restores and bitmaps that were compared. */
  readonly counts: Map<string, number>;
}

export function count(findings: Findings, what: string, by = 1): void {
  findings.counts.set(what, (findings.counts.get(what) ?? 0) + by);
}

/** The guest rests. */
export async function checkGuest({ name, guest }: Disk, findings: Findings): Promise<void> {
  const faults = guest.model.compare(await guest.read());
  if (faults.length > 0) findings.faults.push(`${name}: the guest reads ${describeFaults(faults)}`);
  findings.faults.push(...guest.faults.map(fault => `${name}: ${fault}`));
  count(findings, 'disks read');
}

/** Those that were not read before, and one that was. */
export async function checkBackups(
  world: World,
  disk: Disk,
  { findings, random }: { findings: Findings; random: SeededRandom },
): Promise<void> {
  const backups: BackupJson[] = await world.rest.list(`backups?volume=${disk.id}`);
  const old = backups.filter(({ id }) => disk.proven.has(id));
  const again = old.length === 0 ? [] : [random.pick(old)];
  for (const backup of [...backups.filter(({ id }) => !disk.proven.has(id)), ...again]) {
    const what = `${disk.name}: backup ${backup.checkpoint} (${backup.id})`;
    if (backup.state === 'creating') findings.faults.push(`${what} is left in state ${backup.state}`);
    if (backup.state !== 'available') continue;
    await judge(disk, { what, checkpoint: backup.checkpoint, findings }, () => contentsOf(world, backup));
    disk.proven.add(backup.id);
    count(findings, backup.replicaOfId === null ? 'backups read' : 'replicas read');
  }
}

/** Of a backup, through all that it stands on. */
export function contentsOf(
  world: World,
  { id, repositoryId }: Pick<BackupJson, 'id' | 'repositoryId'>,
): Promise<Contents> {
  const { repositoryNode } = world.disks.find(disk => disk.repositoryId === repositoryId)!;
  const folder = join(world.stateDir(repositoryNode), 'repositories', repositoryId, 'backups');
  return readImage(join(folder, `${id}.qcow2`), 'qcow2');
}

/** Files and volumes that were restored; the files go. */
export async function checkRestores(world: World, findings: Findings): Promise<void> {
  for (const [node, names] of world.restoredFiles) {
    for (const [name, end] of names) {
      const path = join(world.stateDir(node), 'restores', name);
      if (end === 'unknown' && !existsSync(path)) continue;
      await judgeRestored(world, { name, findings }, () => readImage(path, 'raw'));
      await rm(path, { force: true });
    }
    names.clear();
  }
  for (const volume of await world.rest.list('volumes')) {
    if (!volume.name.startsWith('restored-')) continue;
    if (volume.state !== 'ready') findings.faults.push(`volume ${volume.name} is left ${volume.state}`);
    else if (world.overwritten.get(volume.name) === MIXED) count(findings, 'restores in place left half');
    else await judgeRestored(world, { name: volume.name, findings }, () => readExport(volume.exportUri));
  }
}

async function judgeRestored(
  world: World,
  { name, findings }: { name: string; findings: Findings },
  read: () => Promise<Contents>,
): Promise<void> {
  const checkpoint = world.overwritten.get(name) ?? name.slice(name.indexOf('.') + 1);
  const disk = world.restoredOf.get(name)!;
  await judge(disk, { what: `${disk.name}: ${name}`, checkpoint, findings }, read);
  count(findings, 'restores read');
}

async function judge(
  disk: Disk,
  { what, checkpoint, findings }: { what: string; checkpoint: string; findings: Findings },
  read: () => Promise<Contents>,
): Promise<void> {
  const known = disk.known.get(checkpoint);
  if (known === undefined) {
    findings.faults.push(`${what} is of a point in time that nobody asked for`);
    return;
  }
  try {
    const faults = disk.guest.model.judge(await read(), known.window);
    if (faults.length > 0) findings.faults.push(`${what}: ${describeFaults(faults)}`);
  } catch (error) {
    findings.faults.push(`${what} cannot be read: ${String(error)}`);
  }
}
