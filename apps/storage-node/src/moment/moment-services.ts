// What this storage node does with frozen moments, put together: backups, and exports for others to read.
import type { BlockGraph, Clock } from '@tidemark/engine';
import type { NbdExports } from '../exports/nbd-exports.ts';
import type { JobRunner } from '../host/job-runner.ts';
import type { StateStore } from '../host/state-store.ts';
import type { VolumeRegistry } from '../volume/volume-registry.ts';
import { BackupRunner } from './backup-runner.ts';
import { MomentExports } from './moment-exports.ts';
import { type MomentReport, Moments } from './moments.ts';

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
