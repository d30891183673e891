// The walk that commit and stream share: from the start of an image to its end, one bounded step after the other,
// leaving out what lies in other layers than the job's.

import { fromSystemError } from '../errors.ts';
import { CHAIN_CHUNK_BYTES } from '../limits.ts';
import type { BlockNode } from '../node/block-node.ts';
import type { JobProgress } from './job.ts';
import { type JobFailure, PolicyJob } from './policy-job.ts';

/** What a step would find: a run that the job copies, or one that is no business of its. */
export interface ChainRun {
  length: number;
  copied: boolean;
  zero: boolean;
}

export abstract class ChainJob extends PolicyJob {
  #offset = 0;
  #sizeBytes = 0;
  #sentBytes = 0;
  #inFlight = 0;

  progress(): JobProgress {
    return { currentBytes: this.#offset, totalBytes: this.#sizeBytes, sentBytes: this.#sentBytes };
  }

  /** The image that is walked through. */
  protected abstract readonly walked: BlockNode;
  /** Extents of a depth in this range are copied. */
  protected abstract readonly depths: { min: number; max: number };
  /** Returns what failed. */
  protected abstract copyRun(offset: number, run: ChainRun): Promise<JobFailure | undefined>;
  /** After an `ignore`: true where the step is left out instead of done again. */
  protected ignored(_failure: JobFailure): boolean {
    return false;
  }

  /** Resolves at the end of the image. */
  protected async walk(): Promise<void> {
    this.#sizeBytes = this.walked.sizeBytes;
    while (this.#offset < this.#sizeBytes) {
      await this.pausePoint();
      const waitMs = this.speedDelayMs;
      if (waitMs > 0) {
        await this.sleep(waitMs);
        continue;
      }
      this.#inFlight++;
      const { length, failure } = await this.#step(this.#offset).finally(() => this.#stepEnded());
      if (failure !== undefined && !this.cancelled) {
        const action = await this.settleFailure(failure);
        if (action === 'stop' || !this.ignored(failure)) continue;
      }
      if (failure === undefined || !this.cancelled) this.#offset += length;
    }
  }

  async #step(offset: number): Promise<{ length: number; failure?: JobFailure | undefined }> {
    let run: ChainRun;
    try {
      run = await this.#runAt(offset);
    } catch (cause) {
      const error = fromSystemError(cause, { op: 'block-status', offset });
      return {
        length: Math.min(CHAIN_CHUNK_BYTES, this.#sizeBytes - offset),
        failure: { side: 'source', error, offset },
      };
    }
    if (!run.copied) return run;
    const failure = await this.copyRun(offset, run);
    if (failure === undefined) this.#sentBytes += run.zero ? 0 : run.length;
    this.account(run.length);
    return { length: run.length, failure };
  }

  /** Up to where another layer, or one of another kind, begins. */
  async #runAt(offset: number): Promise<ChainRun> {
    const end = Math.min(offset + CHAIN_CHUNK_BYTES, this.#sizeBytes);
    const { min, max } = this.depths;
    let run: (ChainRun & { depth: number }) | undefined;
    for (const { offset: at, length, depth, zero } of await this.walked.extents(offset, end - offset)) {
      const copied = depth >= min && depth <= max;
      const goesOn = run === undefined || (copied ? depth === run.depth && zero === run.zero : !run.copied);
      if (!goesOn) break;
      run = { length: at + length - offset, copied, zero, depth };
    }
    return run!;
  }

  #stepEnded(): void {
    this.#inFlight--;
    for (const wake of this.#idle.splice(0)) wake();
  }

  readonly #idle: (() => void)[] = [];

  /** Closes the job's gate for a drain; resolves once nothing of it is on the way. */
  async quiesce(): Promise<void> {
    this.beginDrain();
    while (this.#inFlight > 0) await new Promise<void>(wake => this.#idle.push(wake));
  }

  unquiesce(): void {
    this.endDrain();
  }
}
