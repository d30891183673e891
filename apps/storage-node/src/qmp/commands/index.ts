// Every command of the monitor.
import type { QmpCommand } from '../command.ts';
import { backupCommands } from './backup.ts';
import { exportCommands } from './exports.ts';
import { jobCommands } from './jobs.ts';
import { monitorCommands } from './monitor.ts';

const groups: readonly (readonly QmpCommand[])[] = [
  exportCommands,

  monitorCommands(() => [...qmpCommands.keys()]),
  jobCommands,
  backupCommands,
];

export const qmpCommands: ReadonlyMap<string, QmpCommand> = new Map(
  groups.flat().map(command => [command.name, command]),
);
