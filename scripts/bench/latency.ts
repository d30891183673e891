// What a guest feels: how long a 4 KiB write takes, one after the other, while nothing else happens and
// while a backup copies before each write.

import { rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { BackupWay, PreparedBackup } from './backup.ts';
import type { Disk } from './disk.ts';
import { type RequestResult, requests } from './load.ts';
import { run } from './program.ts';
import type { Scale } from './scale.ts';

/** The backup is under way when the writes begin. */
const HEAD_START_MS = 200;

export interface Latency {
  readonly name: string;
  readonly alone: RequestResult;
  readonly during: RequestResult;
  /** The part of the second measurement that the backup lasted, at most 1. */
  readonly covered: number;
}

export async function measureLatency(way: BackupWay, disk: Disk, scale: Scale): Promise<Latency> {
  const prepared = await way.prepare();
  try {
    // What was written before must not hold up the writes that are measured.
    await run('sync', []);
    const write = () =>
      requests({
        ...{ uri: prepared.guestUri, operation: 'randwrite', blockBytes: 4096, depth: 1 },
        ...{ seconds: scale.latencySeconds, rangeBytes: disk.dataBytes },
      });
    const alone = await write();
    return { name: way.name, alone, ...(await writeDuring(prepared, write)) };
  } finally {
    await prepared.clean();
    await rm(prepared.path, { force: true });
  }
}

async function writeDuring(
  prepared: PreparedBackup,
  write: () => Promise<RequestResult>,
): Promise<{ during: RequestResult; covered: number }> {
  let backupEnd = Number.POSITIVE_INFINITY;
  const backup = prepared.backUp().then(() => {
    backupEnd = performance.now();
  });
  backup.catch(() => undefined); // its failure is passed on below, after the writes have ended
  await delay(HEAD_START_MS);
  const start = performance.now();
  const during = await write();
  const end = performance.now();
  await backup;
  return { during, covered: Math.min(1, Math.max(0, (backupEnd - start) / (end - start))) };
}
