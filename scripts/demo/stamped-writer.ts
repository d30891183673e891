// The guest of the demo: keeps changing its region of a disk over NBD, as fast as it is let, in a thread and on
// a connection of its own. What it did is in its history.

import { Worker } from 'node:worker_threads';
import type { Range } from './layout.ts';
import { WriteHistory } from './write-history.ts';

export interface StampedWriterOptions {
  readonly uri: string;
  /** Whole blocks. */
  readonly region: Range;
  readonly inFlight: number;
  readonly writesMax: number;
  /** Of the choice of blocks: the same seed, the same order. */
  readonly seed: number;
}

/** What the thread is given. */
export interface WriterTask extends StampedWriterOptions {
  readonly shared: SharedArrayBuffer;
}

/** To the thread, and from it: each command is answered once, by what it led to. */
export type WriterCommand = 'start' | 'stop';
export type WriterAnswer = 'started' | 'stopped' | { failed: string };

export class StampedWriter {
  readonly history: WriteHistory;
  readonly #thread: Worker;
  #failure: Error | null = null;
  #waiting: { wanted: WriterAnswer; resolve: () => void; reject: (error: Error) => void } | null = null;

  private constructor(thread: Worker, history: WriteHistory) {
    this.#thread = thread;
    this.history = history;
    thread.on('message', (answer: WriterAnswer) => this.#onAnswer(answer));
    thread.on('error', error => this.#fail(error instanceof Error ? error : new Error(String(error))));
    thread.on('exit', () => this.#fail(new Error('the writer has ended')));
  }

  /** Starts the thread; it connects with its first `start`. */
  static create(options: StampedWriterOptions): StampedWriter {
    const history = WriteHistory.create(options.writesMax);
    const task: WriterTask = { ...options, shared: history.shared };
    const thread = new Worker(new URL('./writer-thread/main.ts', import.meta.url), {
      workerData: task,
      execArgv: ['--disable-warning=ExperimentalWarning'],
    });
    return new StampedWriter(thread, history);
  }

  /** Resolves once a write has been acknowledged. */
  start(): Promise<void> {
    return this.#ask('start', 'started');
  }

  /** Resolves when nothing is in flight any more; rejects when a write has failed since `start`. */
  stop(): Promise<void> {
    return this.#ask('stop', 'stopped');
  }

  /** Ends the thread and its connection, whatever it does; `start` and `stop` that wait reject. */
  async close(): Promise<void> {
    await this.#thread.terminate();
  }

  #ask(command: WriterCommand, wanted: WriterAnswer): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    const answered = new Promise<void>((resolve, reject) => {
      this.#waiting = { wanted, resolve, reject };
    });
    this.#thread.postMessage(command);
    return answered;
  }

  #onAnswer(answer: WriterAnswer): void {
    if (typeof answer === 'object') {
      this.#fail(new Error(`the writer failed: ${answer.failed}`));
    } else if (this.#waiting?.wanted === answer) {
      this.#waiting.resolve();
      this.#waiting = null;
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#waiting?.reject(this.#failure);
    this.#waiting = null;
  }
}

/** Writes a second that were acknowledged between two looks at a history. */
export class Speedometer {
  readonly #history: WriteHistory;
  #writes: number;
  #since = performance.now();

  constructor(history: WriteHistory) {
    this.#history = history;
    this.#writes = history.acknowledged;
  }

  /** Since the last look, or since it was made. */
  look(): { writes: number; seconds: number } {
    const now = performance.now();
    const writes = this.#history.acknowledged;
    const result = { writes: writes - this.#writes, seconds: (now - this.#since) / 1000 };
    this.#writes = writes;
    this.#since = now;
    return result;
  }
}
