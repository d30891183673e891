// What this storage node does with groups of volumes, put together.
import type { StateStore } from '../host/state-store.ts';
import type { GroupHost } from './group.ts';
import { type GroupReport, Groups } from './groups.ts';
import { type HookPrograms, Hooks } from './hooks.ts';

export interface GroupServices {
  readonly groups: Groups;
  readonly hooks: Hooks;
}

export function groupServices(
  options: Omit<GroupHost, 'records' | 'fencesOff'> & {
    store: StateStore;
    hooks: HookPrograms;
    /** Default false: see GroupHost. */
    fencesOff: boolean | undefined;
    report: GroupReport;
  },
): GroupServices {
  const { hooks: programs, fencesOff = false, clock, ...more } = options;
  return { groups: new Groups({ ...more, clock, fencesOff }), hooks: new Hooks({ programs, clock }) };
}
