// After a round: backups are of the kind that was asked for, say why, and look at no more than what changed.
import { GRANULE_BYTES } from '../limits.ts';
import type { Operation } from '../operation.ts';
import type { Disk, World } from '../world.ts';
import { backupsWereRemoved, type Circumstances, checkpointsWereRemoved } from './allowed-ends.ts';
import { count, type Findings } from './contents-check.ts';

const PREFIX = 'backup-';
/** The base was taken away while the backup waited for its turn. */
const FELL_BACK = /^full: the changes since the base checkpoint are not known \(.*\bno checkpoint\b/;
const GROWTH = / bytes in doubt since a crash are copied, too/;

interface BackupJson {
  readonly id: string;
  readonly checkpoint: string;
  readonly parentId: string | null;
  readonly kind: string;
  readonly reason: string;
  readonly repositoryId: string;
}

export async function checkKinds(
  world: World,
  disk: Disk,
  { circumstances, findings }: { circumstances: Circumstances; findings: Findings },
): Promise<void> {
  const all: BackupJson[] = await world.rest.list(`backups?volume=${disk.id}`);
  const backups = all.filter(({ repositoryId }) => repositoryId === disk.repositoryId);
  for (const { id, kind, reason } of all) {
    if (!reason.startsWith(`${kind}: `))
      findings.faults.push(`${disk.name}: backup ${id} is ${kind}, and its reason is '${reason}'`);
  }
  const made = circumstances.operations.filter(
    one => one.disk === disk && one.kind.startsWith(PREFIX) && one.end === 'succeeded',
  );
  for (const operation of made) {
    const faults = [
      ...kindFaults(operation, circumstances),
      ...rowFaults(operation, { backups, circumstances }),
      ...sizeFaults(operation, backups),
    ];
    const what = `${disk.name}: ${operation.kind} ${operation.name}`;
    findings.faults.push(...faults.map(fault => `${what} ${fault}`));
    count(findings, 'backups whose kind was compared');
  }
}

/** As the run tells it: a later removal may make another kind of the backup. */
function kindFaults(operation: Operation, circumstances: Circumstances): string[] {
  const wanted = operation.kind.slice(PREFIX.length);
  const reason = operation.run?.reason ?? '';
  const grown = Number(operation.run?.result?.grownBytes ?? 0);
  const faults: string[] = [];
  if (grown > 0 !== GROWTH.test(reason)) faults.push(`has ${grown} bytes in doubt, and says '${reason}'`);
  if (reason.startsWith(`${wanted}: `)) return faults;
  const isExcused = FELL_BACK.test(reason) && checkpointsWereRemoved(operation, circumstances);
  return isExcused ? faults : [...faults, `became another: '${reason}'`];
}

function rowFaults(
  operation: Operation,
  { backups, circumstances }: { backups: readonly BackupJson[]; circumstances: Circumstances },
): string[] {
  const row = backups.find(({ checkpoint }) => checkpoint === operation.name);
  if (row === undefined || backupsWereRemoved(operation, circumstances)) return [];
  const reason = operation.run?.reason;
  return row.reason === reason ? [] : [`gives '${reason}' as its reason, and the backup '${row.reason}'`];
}

/** An increment looks at what requests have touched since its base, and at what is told as grown. */
function sizeFaults({ disk, name, run }: Operation, backups: readonly BackupJson[]): string[] {
  const parentId = backups.find(({ checkpoint }) => checkpoint === name)?.parentId;
  const base = disk.known.get(backups.find(({ id }) => id === parentId)?.checkpoint ?? '');
  if (base === undefined || run?.result === null || run === undefined) return [];
  const { dirtyBytes, grownBytes } = run.result as { dirtyBytes: number; grownBytes: number };
  const touched = disk.guest.model.touchedGranules(base.window).size * GRANULE_BYTES;
  if (dirtyBytes <= touched + grownBytes) return [];
  return [`looks at ${dirtyBytes} bytes; ${touched} were touched since its base, ${grownBytes} have grown`];
}
