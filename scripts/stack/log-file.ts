// The log of one service: its standard output, which the kernel writes without us, so that a service outlives
// its starter undisturbed. Read again only to learn that the service is ready, or why it ended.

import { closeSync, fstatSync, openSync, readSync, renameSync, statSync } from 'node:fs';
import { LOG_BYTES_MAX } from './limits.ts';

const TAIL_BYTES = 4_096;

export class LogFile {
  readonly path: string;
  #start = 0;

  constructor(path: string) {
    this.path = path;
  }

  /** A descriptor to append to; what is written from now on belongs to this start. The caller closes it. */
  open(): number {
    const size = statSync(this.path, { throwIfNoEntry: false })?.size ?? 0;
    if (size > LOG_BYTES_MAX) renameSync(this.path, `${this.path}.1`);
    const descriptor = openSync(this.path, 'a');
    this.#start = fstatSync(descriptor).size;
    return descriptor;
  }

  /** Whether this start has logged a line whose message is exactly this. */
  hasMessage(message: string): boolean {
    return this.#read(this.#start)
      .split('\n')
      .some(line => messageOf(line) === message);
  }

  /** The last lines of this start. */
  tail(): string {
    const size = statSync(this.path).size;
    const text = this.#read(Math.max(this.#start, size - TAIL_BYTES));
    return text.trimEnd() || '(it said nothing)';
  }

  #read(from: number): string {
    const descriptor = openSync(this.path, 'r');
    try {
      const buffer = Buffer.alloc(Math.max(0, fstatSync(descriptor).size - from));
      return buffer.toString('utf8', 0, readSync(descriptor, buffer, 0, buffer.length, from));
    } finally {
      closeSync(descriptor);
    }
  }
}

function messageOf(line: string): unknown {
  if (!line.startsWith('{')) return null;
  try {
    return (JSON.parse(line) as { msg?: unknown }).msg;
  } catch {
    return null; // a line that is being written
  }
}
