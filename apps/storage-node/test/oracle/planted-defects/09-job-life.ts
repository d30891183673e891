// Nothing is counted against a job's speed limit: scenario LC-01 must notice.
import { type Job, JobRegistry } from '@tidemark/engine';

const add = JobRegistry.prototype.add;
JobRegistry.prototype.add = function (this: JobRegistry, job: Job): void {
  add.call(this, job);
  Object.assign(job, { account: () => {} });
};
