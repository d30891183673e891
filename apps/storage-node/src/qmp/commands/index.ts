// Every command of the monitor.
import type { QmpCommand } from '../command.ts';
import { monitorCommands } from './monitor.ts';

const groups: readonly (readonly QmpCommand[])[] = [monitorCommands(() => [...qmpCommands.keys()])];

export const qmpCommands: ReadonlyMap<string, QmpCommand> = new Map(
  groups.flat().map(command => [command.name, command]),
);
