// The loop that backup and restore share: keeps a bounded number of copies in flight until the copy bitmap
// is empty, coming back to clusters whose copy by a guest had failed, and to those whose own copy failed
// where the error policies say so (scenarios BJ-11, BJ-12).
import type { BlockCopy, CopyFailure, CopyPiece } from '../copy/block-copy.ts';
import { EngineError, fromSystemError } from '../errors.ts';
import { COPY_WORKERS_DEFAULT, COPY_WORKERS_MAX } from '../limits.ts';
import type { BlockNode } from '../node/block-node.ts';
import { alignUp } from '../units.ts';
import type { JobProgress } from './job.ts';
import type { JobOptions } from './job-options.ts';
import { type ErrorPolicies, PolicyJob } from './policy-job.ts';

export interface CopyJobOptions extends JobOptions, ErrorPolicies {
  copy: BlockCopy;
  target: BlockNode;
  /** Copies in flight, 1 to WORKERS_MAX; more than COPY_WORKERS_MAX count as that many. */
  workers?: number | undefined;
  /**
   * Zeroes count against the speed limit as data does, as QEMU has it. Default false: what is not sent
   * costs nothing.
   */
  speedCountsZeroes?: boolean | undefined;
}

/** QEMU's bound. */
const WORKERS_MAX = 2 ** 31 - 1;

export abstract class CopyJob extends PolicyJob {
  protected readonly copy: BlockCopy;
  protected readonly target: BlockNode;
  readonly #workers: number;
  readonly #speedCountsZeroes: boolean;
  #pieces = 0;
  /** The next piece is being looked for: soon a copy may be in flight. Or the job does something else. */
  #claiming: Promise<unknown> | undefined;
  #failure: CopyFailure | undefined;

  constructor(options: CopyJobOptions) {
    super(options);
    this.copy = options.copy;
    this.target = options.target;
    // Above the bound they would only wait for memory.
    this.#workers = Math.min(validateWorkers(options.workers ?? COPY_WORKERS_DEFAULT), COPY_WORKERS_MAX);
    this.#speedCountsZeroes = options.speedCountsZeroes ?? false;
  }

  /** In whole clusters, as QEMU counts: the last one may stick out of the disk. */
  progress(): JobProgress {
    const { doneBytes, sentBytes, remainingBytes, inFlightBytes, clusterBytes } = this.copy;
    const currentBytes = alignUp(doneBytes, clusterBytes);
    // At most one of the three has the cluster that is cut short.
    const totalBytes = alignUp(doneBytes + inFlightBytes + remainingBytes, clusterBytes);
    return { currentBytes, totalBytes, sentBytes };
  }

  /** A reason to stop that lies outside the job's own copies. */
  protected assertWorthGoingOn(): void {}

  /** For kinds that can go on without some bytes: resolves with what is still to be settled. Nothing is in flight. */
  protected async passOver(failure: CopyFailure): Promise<CopyFailure | undefined> {
    return failure;
  }

  protected override async run(): Promise<void> {
    let cursor = 0;
    for (;;) {
      if (this.mustRest || this.#failure !== undefined) {
        await this.#piecesEnded();
        await this.#settle(this.#takeFailure());
        cursor = 0;
      }
      await this.pausePoint();
      this.assertWorthGoingOn();
      // Asked to rest while the answer of the pause point was on its way: nothing may begin any more.
      if (this.mustRest || this.#failure !== undefined) continue;
      const waitMs = this.speedDelayMs;
      if (this.#pieces >= this.#workers) {
        await this.copy.anyFinished();
        continue;
      }
      // Whoever has nothing left to copy has nothing to wait for.
      if (waitMs > 0 && this.copy.copyBitmap.dirtyGranules > 0) {
        await this.sleep(waitMs);
        continue;
      }
      const next = await this.#copyPiece(cursor);
      if (next === undefined && this.copy.inFlight > 0) await this.copy.anyFinished();
      else if (next === undefined && this.#isDone) break;
      cursor = next ?? 0;
    }
    while (this.mustRest) await this.pausePoint();
    // What nobody wrote needs no flush.
    if (this.hasWritten) await this.busyWith(this.flushTarget());
    this.assertWorthGoingOn();
  }

  /** Requests in flight end; with `force` also those that a hanging target keeps. */
  protected override onCancel(force: boolean): void {
    void this.copy.stop();
    if (force) this.target.cancelInFlight?.();
  }

  /** Afterwards nothing reaches the target any more (scenario INV-11). */
  protected override async abort(): Promise<void> {
    await this.copy.stop();
  }

  /** Closes the job's gate for a drain; resolves once the job and its guests have nothing on the way. */
  async quiesce(): Promise<void> {
    this.beginDrain();
    await this.#claiming;
    while (this.copy.inFlight > 0) await this.copy.anyFinished();
  }

  unquiesce(): void {
    this.endDrain();
  }

  /** For what the job does besides copies: who lets it stand still waits for the end of that, too. */
  protected busyWith<Result>(work: Promise<Result>): Promise<Result> {
    this.#claiming = work.catch(() => undefined);
    return work;
  }

  protected get hasWritten(): boolean {
    return this.copy.doneBytes > 0;
  }

  protected async flushTarget(): Promise<void> {
    await this.target.flush();
  }

  /** A guest copy that failed sets its bits again, so only an empty bitmap with nobody at it is the end. */
  get #isDone(): boolean {
    return this.#failure === undefined && this.copy.copyBitmap.dirtyGranules === 0;
  }

  /** Returns where to go on, or undefined when no bit is set from `cursor` on. */
  async #copyPiece(cursor: number): Promise<number | undefined> {
    const paced = this.#speedCountsZeroes && this.info().speedBytesPerSecond > 0;
    const claiming = this.busyWith(this.copy.copyNext(cursor, paced ? this.copy.chunkBytes : Infinity));
    let piece: CopyPiece | undefined;
    try {
      piece = await claiming;
    } catch (cause) {
      const error = fromSystemError(cause, { op: 'block-status', offset: cursor });
      this.#failure ??= { side: 'source', error, offset: cursor, length: 0 };
      return cursor;
    }
    if (piece === undefined) return undefined;
    if (!piece.zero || this.#speedCountsZeroes) this.account(piece.length);
    this.#pieces++;
    void piece.done.then(failure => {
      this.#pieces--;
      this.#failure ??= failure;
      if (failure !== undefined) this.wake();
    });
    return piece.offset + piece.length;
  }

  async #piecesEnded(): Promise<void> {
    while (this.#pieces > 0) await this.copy.anyFinished();
  }

  async #settle(failure: CopyFailure | undefined): Promise<void> {
    if (failure === undefined || this.cancelled) return;
    const left = await this.passOver(failure);
    if (left !== undefined && !this.cancelled) await this.settleFailure(left);
  }

  #takeFailure(): CopyFailure | undefined {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure;
  }
}

export function validateWorkers(workers: number): number {
  if (Number.isInteger(workers) && workers >= 1 && workers <= WORKERS_MAX) return workers;
  throw new EngineError('invalid-argument', `max-workers must be between 1 and ${WORKERS_MAX}`);
}
