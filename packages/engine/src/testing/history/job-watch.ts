// Watches the events and the progress of one job (INV-7, INV-8).
import type { Job } from '../../job/job.ts';
import type { JobEvent } from '../../job/job-event.ts';
import type { Verdict } from './verdict.ts';

/** Scenario table 2.1, for a kind of job that never becomes ready. */
const WAYS: Readonly<Record<string, string>> = {
  created: 'running aborting null',
  running: 'paused waiting aborting',
  paused: 'running',
  waiting: 'pending aborting',
  pending: 'aborting concluded',
  aborting: 'aborting concluded',
  concluded: 'null',
  null: '',
};

export class JobWatch {
  readonly #id: string;
  readonly #verdict: Verdict;
  readonly #onTerminal: () => void;
  #state: string | undefined;
  #terminal: string | undefined;

  constructor(options: { id: string; verdict: Verdict; onTerminal: () => void }) {
    this.#id = options.id;
    this.#verdict = options.verdict;
    this.#onTerminal = options.onTerminal;
  }

  /** The last state that was told. */
  get state(): string | undefined {
    return this.#state;
  }

  get over(): boolean {
    return this.#terminal !== undefined;
  }

  event(event: JobEvent): void {
    if (event.jobId !== this.#id) return;
    if (this.#state === 'null') this.#verdict.report(7, `${event.type} after the job was dismissed`);
    if (event.type === 'job-status') {
      this.#move(event.state);
      return;
    }
    if (this.#terminal !== undefined) this.#verdict.report(7, `${event.type} after ${this.#terminal}`);
    if (event.type !== 'job-completed' && event.type !== 'job-cancelled') return;
    this.#terminal = event.type;
    if (event.error === undefined && event.currentBytes !== event.totalBytes) {
      const { currentBytes, totalBytes } = event;
      this.#verdict.report(8, `a job that succeeds ends at ${currentBytes} of ${totalBytes} bytes`);
    }
    this.#onTerminal();
  }

  /** @param copied what is known to be on the target, and what may count as such besides, in bytes. */
  progress(job: Job, copied: { atLeast: number; atMost: number }): void {
    const { currentBytes, totalBytes } = job.progress();
    if (currentBytes > totalBytes) this.#verdict.report(8, `${currentBytes} of ${totalBytes} bytes are done`);
    if (currentBytes < copied.atLeast || currentBytes > copied.atMost) {
      const range = `${copied.atLeast} to ${copied.atMost}`;
      this.#verdict.report(8, `${currentBytes} bytes are said to be done, while ${range} are on the target`);
    }
  }

  /** The job is dismissed. */
  end(listed: boolean): void {
    if (this.#terminal === undefined) this.#verdict.report(7, 'the job ended without a terminal event');
    if (this.#state !== 'null') this.#verdict.report(7, `the last state told is ${this.#state}`);
    if (listed) this.#verdict.report(7, 'the job is still listed');
  }

  #move(state: string): void {
    if (this.#state !== undefined && !WAYS[this.#state]!.split(' ').includes(state)) {
      this.#verdict.report(7, `the job goes from ${this.#state} to ${state}`);
    }
    this.#state = state;
  }
}
