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

export const seconds = (durationMs: number | null): string | null =>
  durationMs === null ? null : `${(durationMs / 1000).toFixed(1)} s`;

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

  list<T>(page: { items: T[] }, columns: readonly Column<T>[]): void {
    this.print(page, () => (page.items.length === 0 ? 'none' : table(page.items, columns)));
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
