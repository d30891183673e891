// A job that does nothing until a test tells it what comes of it.
import { EngineError } from '../errors.ts';
import { Job, type JobProgress } from '../job/job.ts';
import type { JobEvent } from '../job/job-event.ts';
import type { JobGroup } from '../job/job-group.ts';
import type { JobOptions } from '../job/job-options.ts';
import { JobRegistry } from '../job/job-registry.ts';
import type { JobState } from '../job/job-state.ts';
import { ManualClock, settled } from './manual-clock.ts';

export interface HandJobOptions extends Partial<Omit<JobOptions, 'group'>> {
  id?: string;
  group?: JobGroup;
  registry?: JobRegistry;
}

export class HandJob extends Job {
  readonly type = 'hand';
  readonly registry: JobRegistry;
  /** The completion steps that were taken. */
  readonly calls: string[] = [];
  /** What prepare fails with. */
  prepareFailure: EngineError | undefined;
  /** Waited for by clean. */
  cleaned: Promise<void> = Promise.resolve();
  #end: 'done' | EngineError | undefined;

  constructor({ id = 'job0', registry = new JobRegistry(new ManualClock()), ...rest }: HandJobOptions = {}) {
    super({ clock: new ManualClock(), ...rest, id });
    this.registry = registry;
    registry.add(this);
  }

  progress(): JobProgress {
    return { currentBytes: 0, totalBytes: 0, sentBytes: 0 };
  }

  /** Its work ends, well or with an error. */
  async end(error?: EngineError): Promise<void> {
    this.#end = error ?? 'done';
    this.wake();
    await settled();
  }

  /** Its goal is reached, for kinds that go on then. */
  becomeReady(): void {
    this.enterReady();
  }

  get events(): JobEvent[] {
    return this.registry
      .eventsAfter(0)
      .map(({ event }) => event)
      .filter(event => event.jobId === this.id);
  }

  get states(): JobState[] {
    return this.events.flatMap(event => (event.type === 'job-status' ? [event.state] : []));
  }

  protected override async run(): Promise<void> {
    for (;;) {
      await this.pausePoint();
      if (this.#end instanceof EngineError) throw this.#end;
      if (this.#end === 'done') return;
      await this.untilWoken();
    }
  }
  protected override async prepare(): Promise<void> {
    if (this.prepareFailure !== undefined) throw this.prepareFailure;
  }
  protected override async commit(): Promise<void> {
    this.calls.push('commit');
  }
  protected override async abort(): Promise<void> {
    this.calls.push('abort');
  }
  protected override async clean(): Promise<void> {
    this.calls.push('clean');
    await this.cleaned;
  }
}

/** Of a kind that becomes ready and waits to be completed. */
export class ReadyJob extends HandJob {
  readonly completions: { pivot: boolean }[] = [];

  protected override onComplete(options: { pivot: boolean }): void {
    this.completions.push(options);
    void this.end();
  }
}
