// A mirror is not told of what guests write: scenario MI-14 must notice.
import { type Job, JobRegistry, type MirrorJob } from '@tidemark/engine';

const add = JobRegistry.prototype.add;
JobRegistry.prototype.add = function (this: JobRegistry, job: Job): void {
  add.call(this, job);
  if (job.type === 'mirror') Object.assign((job as MirrorJob).copy, { mark: () => false });
};
