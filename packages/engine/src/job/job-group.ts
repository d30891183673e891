// Jobs that complete together: all reach pending before any is finalized, and one failure cancels the rest
// (scenario 2.3, TX-15 to TX-20). A job started alone has a group of one.
import { EngineError } from '../errors.ts';
import type { Job } from './job.ts';

export class JobGroup {
  readonly #members: Job[] = [];
  #finalizing = false;

  add(job: Job): void {
    this.#members.push(job);
  }

  /** A member has entered `waiting`; with the last one the group goes on. */
  memberDone(): void {
    if (this.#members.some(job => job.state !== 'waiting')) return;
    for (const job of this.#members) job.enterPending();
    if (this.#members.every(job => job.autoFinalize)) void this.finalize();
  }

  failed(job: Job): void {
    for (const other of this.#members) {
      if (
        other !== job &&
        other.state !== 'aborting' &&
        other.state !== 'concluded' &&
        other.state !== 'null'
      ) {
        other.cancelInternally();
      }
    }
  }

  /** Prepares all; the first failure aborts every member, otherwise all commit. */
  async finalize(): Promise<void> {
    if (this.#finalizing) return;
    this.#finalizing = true;
    for (const job of this.#members) {
      try {
        await job.prepareForGroup();
      } catch (cause) {
        const error = cause instanceof EngineError ? cause : new EngineError('io', String(cause), {}, cause);
        if (job.state === 'pending') await job.fail(error);
        return;
      }
    }
    const prepared = this.#members.filter(job => job.state === 'pending');
    for (const job of prepared) job.beginCommit();
    for (const job of prepared) await job.succeed();
  }
}
