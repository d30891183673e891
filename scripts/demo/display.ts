// What the demo prints: lines, a progress bar per run on a terminal and a few plain lines elsewhere, and the
// table at the end.

import { SingleBar } from 'cli-progress';

const MiB = 1024 * 1024;
const LABEL_CHARACTERS = 22;
/** Without a terminal: a line for whoever wonders whether it still works. */
const PLAIN_PROGRESS_MS = 3_000;

export interface Progress {
  update(current: number, total: number): void;
  /** Takes the bar off the screen. May be called again. */
  end(): void;
}

export class Display {
  readonly #terminal: boolean;

  constructor(terminal: boolean) {
    this.#terminal = terminal;
  }

  line(text = ''): void {
    console.log(text);
  }

  /** Something that is true now. */
  done(what: string, detail = ''): void {
    this.line(`${this.#paint(32, '✓')} ${what.padEnd(LABEL_CHARACTERS)} ${detail}`.trimEnd());
  }

  failed(what: string, detail: string): void {
    this.line(`${this.#paint(31, '✗')} ${what.padEnd(LABEL_CHARACTERS)} ${detail}`);
  }

  /** More about the line above. */
  detail(text: string): void {
    this.line(`  ${''.padEnd(LABEL_CHARACTERS)} ${text}`);
  }

  progress(label: string): Progress {
    return this.#terminal ? new TerminalProgress(label) : new PlainProgress(label);
  }

  /** Columns of numbers to the right, the others to the left. */
  table(head: readonly string[], rows: readonly (readonly string[])[]): void {
    const widths = head.map((title, at) => Math.max(title.length, ...rows.map(row => row[at]!.length)));
    const isNumber = head.map((_title, at) => rows.every(row => /^[\d.,]+( \w+)?$/.test(row[at]!)));
    const print = (row: readonly string[]) =>
      row
        .map((cell, at) => (isNumber[at] ? cell.padStart(widths[at]!) : cell.padEnd(widths[at]!)))
        .join('  ');
    this.line(this.#paint(1, print(head)));
    for (const row of rows) this.line(print(row));
  }

  #paint(color: number, text: string): string {
    return this.#terminal ? `\u001b[${color}m${text}\u001b[0m` : text;
  }
}

class TerminalProgress implements Progress {
  readonly #bar: SingleBar;
  #shown = false;

  constructor(label: string) {
    this.#bar = new SingleBar({
      format: `  ${label.padEnd(LABEL_CHARACTERS)} {bar} {percentage} %  {value}/{total} MiB`,
      barsize: 30,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      hideCursor: true,
      clearOnComplete: true,
      // Ours: the demo stops what runs before it ends, and clears the bar then.
      gracefulExit: false,
    });
  }

  update(current: number, total: number): void {
    if (total === 0) return; // not known yet
    if (!this.#shown) this.#bar.start(1, 0);
    this.#shown = true;
    this.#bar.setTotal(Math.ceil(total / MiB));
    this.#bar.update(Math.floor(current / MiB));
  }

  end(): void {
    if (this.#shown) this.#bar.stop();
    this.#shown = false;
  }
}

class PlainProgress implements Progress {
  readonly #label: string;
  #said = performance.now();

  constructor(label: string) {
    this.#label = label;
  }

  update(current: number, total: number): void {
    if (total === 0 || performance.now() - this.#said < PLAIN_PROGRESS_MS) return;
    this.#said = performance.now();
    console.log(`  ${this.#label.padEnd(LABEL_CHARACTERS)} ${Math.floor((100 * current) / total)} %`);
  }

  end(): void {}
}

export function size(bytes: number | null): string {
  if (bytes === null) return 'unknown';
  const GiB = 1024 * MiB;
  return bytes >= GiB ? `${(bytes / GiB).toFixed(1)} GiB` : `${(bytes / MiB).toFixed(1)} MiB`;
}

export function seconds(value: number): string {
  return `${value.toFixed(1)} s`;
}
