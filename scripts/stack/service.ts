// One child process of the stack, kept running: when it ends unasked it is started again, with growing
// delays.

import type { ChildProcess } from 'node:child_process';
import { closeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { spawnNode } from '../process/node-process.mjs';
import { HEALTHY_AFTER_MS, READY_POLL_MS, READY_TIMEOUT_MS, RESTART_DELAY_MIN_MS } from './limits.ts';
import { LogFile } from './log-file.ts';

export interface ServiceOptions {
  name: string;
  /** TypeScript file to run. */
  program: string;
  environment: NodeJS.ProcessEnv;
  logPath: string;
  /** It is started again after at most this long. */
  restartDelayMaxMs: number;
  /** Told of each process that was started, and of each that has ended: why, if it is started again. */
  onStarted(name: string, pid: number): void;
  onEnded(name: string, reason: string | null): void;
}

export class Service {
  readonly #options: ServiceOptions;
  readonly #log: LogFile;
  readonly #stopping = new AbortController();
  #child: ChildProcess | null = null;
  #ended: Promise<void> = Promise.resolve();
  #delayMs = RESTART_DELAY_MIN_MS;
  /** It was ready once: from then on it is started again when it ends. */
  #kept = false;

  constructor(options: ServiceOptions) {
    this.#options = options;
    this.#log = new LogFile(options.logPath);
  }

  get name(): string {
    return this.#options.name;
  }

  get logPath(): string {
    return this.#log.path;
  }

  /** Null while it is not running. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /**
   * Starts the process and resolves when it says that it listens. Rejects when it ends before; then it is not
   * tried again. Afterwards it is kept running until `stop`.
   */
  async start(): Promise<void> {
    this.#spawn();
    const first = this.#child;
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!this.#log.hasMessage('listening')) {
      const ended = this.#child !== first;
      if (ended || performance.now() > deadline) {
        await this.stop(0);
        const why = ended ? 'ended before it was ready' : `was not ready after ${READY_TIMEOUT_MS / 1000} s`;
        throw new Error(`${this.name} ${why}; its log ${this.#log.path} ends with:\n${this.#log.tail()}`);
      }
      await delay(READY_POLL_MS, undefined, { signal: this.#stopping.signal });
    }
    this.#kept = true;
  }

  /** Asks the process to end, and kills it when the time is over. Afterwards it does not run. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping.abort(new Error(`${this.name} is being stopped`));
    const child = this.#child;
    if (child === null) return this.#ended;
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    await this.#ended;
    clearTimeout(timer);
  }

  #spawn(): void {
    const { name, program, environment, onStarted } = this.#options;
    const descriptor = this.#log.open();
    const child = spawnNode(process.execPath, [program], {
      env: environment,
      stdio: ['ignore', descriptor, descriptor],
    });
    closeSync(descriptor);
    const started = performance.now();
    this.#child = child;
    this.#ended = new Promise(resolve => {
      child.once('error', error => this.#onEnd(error.message, started, resolve));
      child.once('exit', (code, signal) => this.#onEnd(signal ?? `exit code ${code}`, started, resolve));
    });
    if (child.pid !== undefined) onStarted(name, child.pid);
  }

  #onEnd(reason: string, started: number, resolve: () => void): void {
    this.#child = null;
    const over = this.#stopping.signal.aborted || !this.#kept;
    this.#options.onEnded(this.name, over ? null : reason);
    resolve();
    if (over) return;
    if (performance.now() - started > HEALTHY_AFTER_MS) this.#delayMs = RESTART_DELAY_MIN_MS;
    const waitMs = this.#delayMs;
    this.#delayMs = Math.min(waitMs * 2, this.#options.restartDelayMaxMs);
    delay(waitMs, undefined, { signal: this.#stopping.signal }).then(
      () => this.#spawn(),
      () => {}, // stopped while it waited
    );
  }
}
