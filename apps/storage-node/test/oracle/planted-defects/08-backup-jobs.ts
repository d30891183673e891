// A job that is to stop at an error goes on as if it were ignored: scenario BJ-07 must notice.
import { type Job, JobRegistry } from '@tidemark/engine';

const add = JobRegistry.prototype.add;
JobRegistry.prototype.add = function (this: JobRegistry, job: Job): void {
  add.call(this, job);
  Object.assign(job, { stopForError: () => {} });
};
