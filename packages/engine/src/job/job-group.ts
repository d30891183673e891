// Jobs that complete together: all reach pending before any is finalized, and one failure cancels the rest
// (scenario 2.3, TX-15 to TX-20). A job started alone has a group of one. Members are finalized one after
// another, the youngest first, as QEMU does: each has its terminal event before the next is looked at.
import { EngineError } from '../errors.ts';
import type { Job } from './job.ts';

export class JobGroup {
  /** The youngest first. */
  readonly #members: Job[] = [];
  #end: 'commit' | 'abort' | undefined;

  add(job: Job): void {
    this.#members.unshift(job);
  }

  /** For a job that was never started. */
  remove(job: Job): void {
    const index = this.#members.indexOf(job);
    if (index >= 0) this.#members.splice(index, 1);
  }

  /** A member has entered `waiting`; with the last one the group goes on. */
  memberDone(): void {
    if (this.#end !== undefined || this.#members.some(job => job.state !== 'waiting')) return;
    for (const job of this.#members) job.enterPending();
    if (this.#members.every(job => job.autoFinalize)) void this.finalize();
  }

  /** Prepares all; the first failure aborts every member, otherwise all commit. */
  async finalize(): Promise<void> {
    if (this.#end !== undefined) return;
    this.#end = 'commit';
    for (const job of this.#members) {
      try {
        await job.prepareForGroup();
      } catch (cause) {
        job.enterAborting(
          cause instanceof EngineError ? cause : new EngineError('io', String(cause), {}, cause),
        );
        this.#end = undefined;
        return this.abort();
      }
    }
    for (const job of this.#members) await job.succeed();
  }

  /** True when a member can be turned back no more: it ends as it would have. */
  get committing(): boolean {
    return this.#end === 'commit';
  }

  /** A member has failed, or is to end: so do all. Resolves when every one is concluded. */
  async abort(): Promise<void> {
    if (this.#end !== undefined) return;
    this.#end = 'abort';
    for (const job of this.#members) job.cancelInternally();
    for (const job of this.#members) await job.concludeAborted();
  }
}
