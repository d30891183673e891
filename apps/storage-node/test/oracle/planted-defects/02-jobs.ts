// A job that is paused already takes another pause without a word: scenario JOB-V must notice.
import { type Job, JobRegistry } from '@tidemark/engine';

const add = JobRegistry.prototype.add;
JobRegistry.prototype.add = function (this: JobRegistry, job: Job): void {
  add.call(this, job);
  const pause = job.pause.bind(job);
  job.pause = () => {
    if (!job.info().userPaused) pause();
  };
};
