// What the command prints: answers on stdout, as JSON or as text for people, everything else on stderr.
import { once } from 'node:events';
import { ProblemFailure, RunFailure, UnreachableFailure } from '@tidemark/client';
import { formatSize } from './sizes.ts';

export interface Terminal {
  readonly out: NodeJS.WritableStream;
  /** A terminal gets bars, anything else lines. */
  readonly err: NodeJS.WritableStream & { isTTY?: boolean };
}

export type Column<T> = readonly [heading: string, value: (item: T) => string | number | null];

const text = (value: string | number | null): string => (value === null ? '-' : String(value));

/** Columns as wide as their widest value; numbers and sizes are left as they are given. */
export function table<T>(items: readonly T[], columns: readonly Column<T>[]): string {
  const rows = [
    columns.map(([heading]) => heading),
    ...items.map(item => columns.map(([, value]) => text(value(item)))),
  ];
  const widths = columns.map((_, column) => Math.max(...rows.map(row => row[column]!.length)));
  return rows
    .map(row =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** One thing: its values below each other. */
export function record<T>(item: T, columns: readonly Column<T>[]): string {
  const width = Math.max(...columns.map(([heading]) => heading.length));
  return columns.map(([heading, value]) => `${heading.padEnd(width)}  ${text(value(item))}`).join('\n');
}

/** What a run was about may be gone by the time it is looked at. */
export function recordOrGone<T>(item: T | null, columns: readonly Column<T>[]): string {
  return item === null ? 'It is gone again.' : record(item, columns);
}

export const size = (bytes: number | null): string | null => (bytes === null ? null : formatSize(bytes));

/** Local readers compare moments with their logs: UTC to the second. */
export const moment = (iso: string | null): string | null =>
  iso === null ? null : `${iso.slice(0, 10)} ${iso.slice(11, 19)}Z`;

const DAY_AND_CLOCK = ['year', 'month', 'day', 'hour', 'minute', 'second'] as const;

/** As the clocks of a time zone show it, with how far they are from UTC then; UTC where the zone is not known here. */
export function momentIn(timeZone: string): (iso: string | null) => string | null {
  if (timeZone === 'UTC' || timeZone === 'Etc/UTC') return moment;
  const format = zoneFormat(timeZone);
  if (format === null) return moment;
  return iso => {
    if (iso === null) return null;
    const parts = new Map(format.formatToParts(new Date(iso)).map(({ type, value }) => [type, value]));
    const [year, month, day, hour, minute, second] = DAY_AND_CLOCK.map(part => parts.get(part));
    // `GMT+01:00`; at none it is `GMT` alone.
    const offset = parts.get('timeZoneName')!.slice('GMT'.length) || '+00:00';
    return `${year}-${month}-${day} ${hour}:${minute}:${second}${offset}`;
  };
}

function zoneFormat(timeZone: string): Intl.DateTimeFormat | null {
  const two = '2-digit';
  try {
    return new Intl.DateTimeFormat('en-CA', {
      ...{ timeZone, hourCycle: 'h23', timeZoneName: 'longOffset' },
      ...{ year: 'numeric', month: two, day: two, hour: two, minute: two, second: two },
    });
  } catch {
    // The service may know zones that this machine does not.
    return null;
  }
}

export const seconds = (durationMs: number | null): string | null =>
  durationMs === null ? null : `${(durationMs / 1000).toFixed(1)} s`;

interface Page<T> {
  readonly items: T[];
  readonly nextCursor: string | null;
}

/** For people: that a list goes on, and how to see it. */
export const withMore = ({ nextCursor }: { nextCursor: string | null }, text: string): string =>
  nextCursor === null ? text : `${text}\nmore: --cursor ${nextCursor}`;

/** A restore has done what can be done, and something is missing. The message is for people. */
export class CompleteWithHoles extends Error {
  override name = 'CompleteWithHoles';
}

export class Output {
  readonly #terminal: Terminal;
  readonly #json: boolean;

  constructor(terminal: Terminal, json: boolean) {
    this.#terminal = terminal;
    this.#json = json;
  }

  /** The answer of the API as it came, or the text for people. */
  print(answer: unknown, forPeople: () => string): void {
    this.#terminal.out.write(`${this.#json ? JSON.stringify(answer, null, 2) : forPeople()}\n`);
  }

  list<T>(page: Page<T>, columns: readonly Column<T>[]): void {
    this.print(page, () => withMore(page, page.items.length === 0 ? 'none' : table(page.items, columns)));
  }

  show<T>(item: T, columns: readonly Column<T>[], more = ''): void {
    this.print(item, () => `${record(item, columns)}${more}`);
  }

  get isJson(): boolean {
    return this.#json;
  }

  /** One line of many on stdout; resolves when there is room for the next. */
  async line(text: string): Promise<void> {
    if (!this.#terminal.out.write(`${text}\n`)) await once(this.#terminal.out, 'drain');
  }

  note(line: string): void {
    this.#terminal.err.write(`${line}\n`);
  }

  get progressStream(): Terminal['err'] {
    return this.#terminal.err;
  }
}

/** A failure in words for stderr. Failures that are nobody's but ours keep their stack. */
export function describeFailure(error: unknown): string {
  if (error instanceof ProblemFailure || error instanceof RunFailure)
    return `error: ${error.title}\n${error.message}\ncode: ${error.code}`;
  if (error instanceof UnreachableFailure) return `error: ${error.message}`;
  return `error: ${error instanceof Error ? error.stack : String(error)}`;
}
