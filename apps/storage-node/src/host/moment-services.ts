// What this storage node does with frozen moments, put together: backups, and exports for others to read.
import type { BlockGraph, Clock } from '@tidemark/engine';
import type { NbdExports } from '../exports/nbd-exports.ts';
import { BackupRunner } from './backup-runner.ts';
import type { JobRunner } from './job-runner.ts';
import { MomentExports } from './moment-exports.ts';
import { type MomentReport, Moments } from './moments.ts';
import type { StateStore } from './state-store.ts';
import type { VolumeRegistry } from './volume-registry.ts';

export interface MomentServices {
  readonly moments: Moments;
  readonly backups: BackupRunner;
  readonly momentExports: MomentExports;
}

export function momentServices(options: {
  graph: BlockGraph;
  store: StateStore;
  exports: NbdExports;
  volumes: VolumeRegistry;
  jobs: JobRunner;
  clock: Clock;
  scratchLimitBytes: number;
  targetReconnectMs: number;
  report: MomentReport;
}): MomentServices {
  const { clock } = options;
  const moments = new Moments(options);
  const backups = new BackupRunner({ ...options, moments });
  const momentExports = new MomentExports({ ...options, moments, now: () => clock.wallMs() });
  return { moments, backups, momentExports };
}
