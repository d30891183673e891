// A job says that it has done all that it has to do: scenario BJ-02 must notice.
import { type Job, JobRegistry } from '@tidemark/engine';

const add = JobRegistry.prototype.add;
JobRegistry.prototype.add = function (this: JobRegistry, job: Job): void {
  add.call(this, job);
  const progress = job.progress.bind(job);
  job.progress = () => ({ ...progress(), currentBytes: progress().totalBytes });
};
