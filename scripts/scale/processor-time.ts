// How much of the processors each process of an installation takes: what tells where a figure comes from.
import { readFileSync } from 'node:fs';
import type { Stack } from '../stack/stack.ts';

/** Of `/proc`: clock ticks are hundredths of a second on every Linux. */
const TICK_S = 0.01;

/** Seconds of processor time so far; 0 for a process that is gone. */
function secondsOf(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    return (Number(fields[11]) + Number(fields[12])) * TICK_S;
  } catch {
    return 0;
  }
}

/** A server of PostgreSQL is a process of its own for each connection, and those that have ended count for it. */
function withChildren(pid: number): number {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .trim()
      .split(' ')
      .filter(Boolean);
    return secondsOf(pid) + children.reduce((sum, child) => sum + secondsOf(Number(child)), 0);
  } catch {
    return 0;
  }
}

export class ProcessorTime {
  readonly #pids: Map<string, number>;
  readonly #before: Map<string, number>;
  readonly #at = performance.now();

  constructor(stack: Stack, others: Readonly<Record<string, number | undefined>>) {
    this.#pids = new Map();
    for (const { name, pid } of stack.services.values()) if (pid !== null) this.#pids.set(name, pid);
    if (stack.postgresPid !== null) this.#pids.set('postgres', stack.postgresPid);
    for (const [name, pid] of Object.entries(others)) if (pid !== undefined) this.#pids.set(name, pid);
    this.#before = this.#read();
  }

  /** Since it was made: processors taken on average, by name. */
  shares(): Record<string, number> {
    const seconds = (performance.now() - this.#at) / 1_000;
    const now = this.#read();
    const share = (name: string) => ((now.get(name) ?? 0) - (this.#before.get(name) ?? 0)) / seconds;
    return Object.fromEntries([...this.#pids.keys()].map(name => [name, Math.max(0, share(name))]));
  }

  #read(): Map<string, number> {
    return new Map([...this.#pids].map(([name, pid]) => [name, withChildren(pid)]));
  }
}
