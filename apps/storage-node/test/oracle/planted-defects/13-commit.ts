// A commit that is completed leaves its guests where they were: scenario CM-03 must notice.
import { type Job, JobRegistry } from '@tidemark/engine';

const add = JobRegistry.prototype.add;
JobRegistry.prototype.add = function (this: JobRegistry, job: Job): void {
  add.call(this, job);
  if (job.type === 'commit') job.complete = () => job.cancel({ force: false });
};
