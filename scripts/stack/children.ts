// The record of a stack's child processes, by which the next start finds those that a killed stack left.

import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { processStartTime, processVariable, signalProcess, waitForEnd } from '../process/proc.mjs';
import { STOP_STORAGE_NODES_MS } from './limits.ts';

/** In each child's environment: proves that a process belongs to the stack of this folder. */
export const HOME_VARIABLE = 'TIDEMARK_STACK_HOME';

interface Child {
  pid: number;
  started: string;
}

export class ChildRecord {
  readonly #path: string;
  readonly #home: string;
  #children: Record<string, Child> = {};

  constructor(path: string, home: string) {
    this.#path = path;
    this.#home = home;
  }

  add(name: string, pid: number): void {
    const started = processStartTime(pid);
    if (started === null) return; // it ended at once; its service reports that
    this.#children[name] = { pid, started };
    this.#write();
  }

  remove(name: string): void {
    delete this.#children[name];
    this.#write();
  }

  /** Stops what an earlier stack left; returns the names. Afterwards none of them runs. */
  async stopOrphans(): Promise<string[]> {
    const orphans = Object.entries(this.#read()).filter(([, child]) => this.#isOurs(child));
    await Promise.all(orphans.map(([, child]) => stop(child.pid)));
    this.#write();
    return orphans.map(([name]) => name);
  }

  #isOurs({ pid, started }: Child): boolean {
    return processStartTime(pid) === started && processVariable(pid, HOME_VARIABLE) === this.#home;
  }

  #read(): Record<string, Child> {
    try {
      return JSON.parse(readFileSync(this.#path, 'utf8')) as Record<string, Child>;
    } catch {
      return {}; // no earlier stack, or nothing that can be trusted
    }
  }

  #write(): void {
    writeFileSync(`${this.#path}.new`, JSON.stringify(this.#children));
    renameSync(`${this.#path}.new`, this.#path);
  }
}

async function stop(pid: number): Promise<void> {
  signalProcess(pid, 'SIGTERM');
  if (await waitForEnd(pid, STOP_STORAGE_NODES_MS)) return;
  signalProcess(pid, 'SIGKILL');
  await waitForEnd(pid, STOP_STORAGE_NODES_MS);
}
