// Internal snapshots as lists for people and for programs.
import type { Qcow2Image } from '@tidemark/engine';
import { humanSize } from './sizes.ts';

type Snapshot = Awaited<ReturnType<Qcow2Image['snapshots']>>[number];

const NANOSECONDS = 1_000_000_000n;
/** The instruction count of a writer that had none. */
const NO_COUNT = 2n ** 64n - 1n;
const COUNT_BYTES = 8;

/** As programs read it. */
export interface SnapshotFacts {
  readonly icount: number | undefined;
  readonly 'vm-clock-nsec': number;
  readonly name: string;
  readonly 'date-sec': number;
  readonly 'date-nsec': number;
  readonly 'vm-clock-sec': number;
  readonly id: string;
  readonly 'vm-state-size': number;
}

export function describeSnapshot(snapshot: Snapshot): SnapshotFacts {
  const { vmClockNanoseconds: clock } = snapshot;
  return {
    icount: instructionCount(snapshot),
    'vm-clock-nsec': Number(clock % NANOSECONDS),
    name: snapshot.name,
    'date-sec': snapshot.dateSeconds,
    'date-nsec': snapshot.dateNanoseconds,
    'vm-clock-sec': Number(clock / NANOSECONDS),
    id: snapshot.id,
    'vm-state-size': Number(snapshot.vmStateBytes),
  };
}

/** The third field of the extra data. */
function instructionCount({ moreExtra }: Snapshot): number | undefined {
  const count = moreExtra.length < COUNT_BYTES ? NO_COUNT : moreExtra.readBigUInt64BE(0);
  return count === NO_COUNT ? undefined : Number(count);
}

/** Without any there are no lines, not even a heading. */
export function snapshotLines(snapshots: readonly SnapshotFacts[]): string[] {
  if (snapshots.length === 0) return [];
  return [
    'Snapshot list:',
    row(['ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT']),
    ...snapshots.map(facts => {
      const { id, name, icount } = facts;
      const size = humanSize(facts['vm-state-size']);
      return row([id, name, size, localDate(facts['date-sec']), clockText(facts), String(icount ?? '')]);
    }),
  ];
}

function row([id, tag, size, date, clock, count]: [string, string, string, string, string, string]): string {
  const right = [size.padStart(8), date.padStart(20), clock.padStart(13), count.padStart(11)];
  return `${id.padEnd(9)} ${tag.padEnd(16)} ${right.join('')}`;
}

function clockText(facts: SnapshotFacts): string {
  const seconds = facts['vm-clock-sec'];
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0');
  const milliseconds = String(Math.floor(facts['vm-clock-nsec'] / 1_000_000)).padStart(3, '0');
  return `${[seconds / 3600, (seconds / 60) % 60, seconds % 60].map(two).join(':')}.${milliseconds}`;
}

/** In the time zone of the machine. */
function localDate(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (value: number) => String(value).padStart(2, '0');
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join('-');
  return `${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':')}`;
}
