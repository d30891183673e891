// The loop that backup and restore share: keeps a bounded number of copies in flight until the copy bitmap
// is empty, coming back to clusters whose copy by a guest had failed.
import type { BlockCopy, CopyFailure } from '../copy/block-copy.ts';
import { EngineError } from '../errors.ts';
import { COPY_WORKERS_DEFAULT, COPY_WORKERS_MAX } from '../limits.ts';
import type { BlockNode } from '../node/block-node.ts';
import { Job, type JobOptions, type JobProgress } from './job.ts';

export interface CopyJobOptions extends JobOptions {
  copy: BlockCopy;
  target: BlockNode;
  /** Copies in flight, 1 to COPY_WORKERS_MAX. */
  workers?: number;
}

export abstract class CopyJob extends Job {
  protected readonly copy: BlockCopy;
  readonly #target: BlockNode;
  readonly #workers: number;
  #failure: CopyFailure | undefined;

  constructor(options: CopyJobOptions) {
    super(options);
    this.copy = options.copy;
    this.#target = options.target;
    this.#workers = validateWorkers(options.workers ?? COPY_WORKERS_DEFAULT);
  }

  progress(): JobProgress {
    const { doneBytes, sentBytes, remainingBytes, inFlightBytes } = this.copy;
    return { currentBytes: doneBytes, totalBytes: doneBytes + inFlightBytes + remainingBytes, sentBytes };
  }

  /** A reason to stop that lies outside the job's own copies. */
  protected assertWorthGoingOn(): void {}

  protected override async run(): Promise<void> {
    let cursor = 0;
    for (;;) {
      await this.pausePoint();
      this.assertWorthGoingOn();
      if (this.#failure !== undefined) throw this.#report(this.#failure);
      if (this.copy.inFlight >= this.#workers) {
        await this.copy.anyFinished();
        continue;
      }
      const piece = await this.copy.copyNext(cursor);
      if (piece !== undefined) {
        cursor = piece.offset + piece.length;
        void piece.done.then(failure => {
          this.#failure ??= failure;
        });
        if (!piece.zero) await this.throttle(piece.length);
      } else if (this.copy.inFlight > 0) {
        await this.copy.anyFinished();
        cursor = 0;
      } else if (this.copy.copyBitmap.dirtyGranules > 0) {
        cursor = 0;
      } else if (this.#failure === undefined) {
        break;
      }
    }
    await this.#target.flush();
    this.assertWorthGoingOn();
  }

  protected override onCancel(): void {
    void this.copy.stop();
    this.#target.cancelInFlight?.();
  }

  /** Afterwards nothing reaches the target any more (scenario INV-11). */
  protected override async abort(): Promise<void> {
    await this.copy.stop();
  }

  #report(failure: CopyFailure): EngineError {
    const operation = failure.side === 'source' ? 'read' : 'write';
    this.onEvent({ type: 'job-error', jobId: this.id, operation, action: 'report', error: failure.error });
    return failure.error;
  }
}

function validateWorkers(workers: number): number {
  if (Number.isInteger(workers) && workers >= 1 && workers <= COPY_WORKERS_MAX) return workers;
  throw new EngineError(
    'invalid-argument',
    `max-workers must be greater than zero and at most ${COPY_WORKERS_MAX}`,
  );
}
