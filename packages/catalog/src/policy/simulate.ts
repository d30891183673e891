// What a policy would do from a moment on: each firing with the kind of every volume's backup, and what its prune
// would take away, decided by the code that does it. Nobody fails, and nobody is away.
import type { KeepCandidate } from '../retention/keep.ts';
import { Calendar } from '../retention/period.ts';
import { kindOf, type PolicyDefinition, type PolicyKind } from './definition.ts';
import { planFirings } from './plan-firings.ts';
import { Schedule } from './schedule.ts';
import { type OtherRules, VolumeHistory } from './volume-history.ts';

export interface SimulatedVolume {
  readonly id: string;
  readonly name: string;
  /** Of its repository, with those that others made; empty: the first one has to be full. */
  readonly backups: readonly KeepCandidate[];
  /** It can be built on at least one of them. */
  readonly hasBase: boolean;
  /** Of other policies, about the same backups. */
  readonly others?: readonly Omit<OtherRules, 'calendar'>[];
}

/** Backups that are played in one go: some milliseconds, in which nobody else is answered. */
const BACKUPS_AT_ONCE = 100;

export interface Simulation {
  readonly policyId: string;
  readonly definition: PolicyDefinition;
  /** Of the next firing. */
  readonly number: number;
  readonly from: Date;
  readonly until: Date;
  readonly volumes: readonly SimulatedVolume[];
  /** Awaited every so often, also within a firing: lets others have their turn. */
  readonly breathe: () => Promise<void>;
}

export interface SimulatedBackup {
  readonly volumeId: string;
  readonly volume: string;
  readonly kind: PolicyKind;
  /** Backups after the prune. */
  readonly keeps: readonly { pointInTime: Date; reasons: readonly string[] }[];
  readonly pruned: readonly {
    pointInTime: Date /** Null: one of the simulation's own. */;
    id: string | null;
  }[];
}

export interface SimulatedFiring {
  readonly number: number;
  readonly dueAt: Date;
  readonly startAt: Date;
  readonly volumes: readonly SimulatedBackup[];
}

interface Played extends SimulatedVolume {
  readonly history: VolumeHistory;
  based: boolean;
}

/** In order. Rejects with RangeError for a schedule that is none. */
export async function* simulate(simulation: Simulation): AsyncGenerator<SimulatedFiring> {
  const { policyId, definition, until, breathe } = simulation;
  const { schedule, keep } = definition;
  const { timeZone } = schedule;
  const calendars = new Map([[timeZone, new Calendar(timeZone)]]);
  const calendarOf = (zone: string) => {
    if (!calendars.has(zone)) calendars.set(zone, new Calendar(zone));
    return calendars.get(zone)!;
  };
  const volumes: Played[] = simulation.volumes.map(volume => {
    const others = (volume.others ?? []).map(other => ({ ...other, calendar: calendarOf(other.timeZone) }));
    const options = { keep, timeZone, calendar: calendarOf(timeZone), others };
    return { ...volume, history: new VolumeHistory(options, volume.backups), based: volume.hasBase };
  });
  const dues = new Schedule(schedule);
  let number = simulation.number;
  let backups = 0;
  const ask = (handledUntil: Date, now: Date) =>
    planFirings({ policyId, schedule, dues, handledUntil, now, graceMs: 0 });
  let { handledUntil, nextDueAt } = ask(simulation.from, simulation.from);
  while (nextDueAt !== null && nextDueAt <= until) {
    const plan = ask(handledUntil, nextDueAt);
    for (const { dueAt, startAt } of plan.firings) {
      const played: SimulatedBackup[] = [];
      for (const volume of volumes) {
        played.push(play(volume, { definition, number, startAt }));
        if (++backups % BACKUPS_AT_ONCE === 0) await breathe();
      }
      yield { number, dueAt, startAt, volumes: played };
      number++;
    }
    ({ handledUntil, nextDueAt } = plan);
  }
}

function play(
  volume: Played,
  { definition, number, startAt }: { definition: PolicyDefinition; number: number; startAt: Date },
): SimulatedBackup {
  const wanted = kindOf(definition, number);
  const kind = volume.based || wanted === 'checkpoint' ? wanted : 'full';
  const { id: volumeId, name, history } = volume;
  if (kind === 'checkpoint') return { volumeId, volume: name, kind, keeps: [], pruned: [] };
  volume.based = true;
  const own = `firing-${number}`;
  history.add(own, startAt);
  const pruned = history
    .prune(startAt)
    .map(({ id, pointInTime }) => ({ pointInTime, id: id.startsWith('firing-') ? null : id }));
  const keeps = history.kept.map(({ backup, reasons }) => ({ pointInTime: backup.pointInTime, reasons }));
  return { volumeId, volume: name, kind, keeps, pruned };
}
