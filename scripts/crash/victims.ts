// The processes that are killed, and the named points at which they kill themselves.
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Stack } from '../stack/stack.ts';
import type { QueueServer } from './queue-server.ts';

const KILLED = 'killed ';

/** With kill points; of some there may be several, which share them. */
export const SERVICES = ['alpha', 'beta', 'gamma', 'worker', 'api'] as const;

/** Where they run. */
export interface Processes {
  readonly stack: Stack;
  /** Without it PostgreSQL is the queue. */
  readonly queueServer?: QueueServer | undefined;
}

export interface PointOrder {
  readonly point: string;
  readonly count: number;
}

/** What one service's file of passed points tells. */
interface Passed {
  readonly counts: Map<string, number>;
  readonly kills: Map<string, number>;
  bytesRead: number;
  last: string | undefined;
}

/** The kill points of all services, over the life of one world after the other. */
export class PointLog {
  readonly #folder: string;
  readonly #passed = new Map<string, Passed>();

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
    for (const service of SERVICES) {
      this.#passed.set(service, { counts: new Map(), kills: new Map(), bytesRead: 0, last: undefined });
    }
  }

  get folder(): string {
    return this.#folder;
  }

  /** The first of these services to pass one of these points for the given time dies at it. */
  arm(service: string, orders: readonly PointOrder[]): void {
    const lines = orders.map(({ point, count }) => `${point} ${count}\n`);
    const file = join(this.#folder, `${service}.armed`);
    // Read at any moment: all of it or nothing.
    writeFileSync(`${file}.new`, lines.join(''));
    renameSync(`${file}.new`, file);
  }

  disarm(): void {
    for (const service of SERVICES) rmSync(join(this.#folder, `${service}.armed`), { force: true });
  }

  /** Takes in what was passed since the last time. */
  look(): void {
    for (const [service, passed] of this.#passed) {
      const text = readFrom(join(this.#folder, `${service}.passed`), passed.bytesRead);
      const whole = text.slice(0, text.lastIndexOf('\n') + 1);
      passed.bytesRead += Buffer.byteLength(whole);
      for (const line of whole.split('\n').filter(one => one !== '')) {
        if (!line.startsWith(KILLED)) {
          add(passed.counts, line);
          continue;
        }
        passed.last = line.slice(KILLED.length);
        add(passed.kills, passed.last);
      }
    }
  }

  /** The point at which it died last. */
  lastOf(service: string): string | undefined {
    return this.#passed.get(service)!.last;
  }

  /** Those seen so far. */
  pointsOf(service: string): { name: string; passed: number; killed: number }[] {
    const { counts, kills } = this.#passed.get(service)!;
    return [...counts].map(([name, passed]) => ({ name, passed, killed: kills.get(name) ?? 0 }));
  }
}

/** Names of the processes that are such a victim: `worker`, `worker-2` and so on. */
export function processesOf({ stack }: Processes, victim: string): string[] {
  const names = [...stack.services.keys()].filter(name => name.replace(/-\d+$/, '') === victim);
  return names.length === 0 ? [victim] : names;
}

/** Undefined while it does not run. */
export function pidOf({ stack, queueServer }: Processes, name: string): number | undefined {
  if (name === 'redis') return queueServer?.pid;
  const pid = name === 'postgres' ? stack.postgresPid : stack.services.get(name)?.pid;
  return pid ?? undefined;
}

/** False when it did not run. */
export function kill(processes: Processes, name: string, signal: NodeJS.Signals = 'SIGKILL'): boolean {
  const pid = pidOf(processes, name);
  if (pid === undefined) return false;
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

function add(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

/** What follows that offset; nothing where there is no file. */
function readFrom(path: string, offset: number): string {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch {
    return '';
  }
  try {
    const bytes = Buffer.alloc(Math.max(fstatSync(file).size - offset, 0));
    return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, offset)).toString('utf8');
  } finally {
    closeSync(file);
  }
}
