// Looking at jobs: what a query says now, and what has been told of a job so far.
import type { Session } from './session.ts';

export interface BlockJobFacts {
  readonly device: string;
  readonly type: string;
  readonly len: number;
  readonly offset: number;
  readonly speed: number;
  readonly status: string;
  readonly paused: boolean;
  readonly 'io-status': string;
  readonly error?: string;
}

/** The job as a query shows it; undefined once it is gone. Not traced. */
export async function lookAt(s: Session, id: string): Promise<BlockJobFacts | undefined> {
  return (await s.ask<BlockJobFacts[]>('query-block-jobs')).find(({ device }) => device === id);
}

/** How far the job, which must be there, has come. Not traced. */
export async function offsetOf(s: Session, id: string): Promise<number> {
  return (await lookAt(s, id))!.offset;
}

/** Waits until all of the jobs are in that state, in whatever order they come there. */
export function jobsAre(s: Session, ids: readonly string[], status: string): Promise<void> {
  return s.until(`${ids.join(', ')} ${status}`, async () => {
    const jobs = await s.ask<BlockJobFacts[]>('query-block-jobs');
    return ids.every(id => jobs.find(({ device }) => device === id)?.status === status);
  });
}

/** The jobs that had a terminal event of that kind, in order. */
export function endedWith(s: Session, event: string): unknown[] {
  return s.daemon.qmp.events.filter(one => one.event === event).map(({ data }) => data?.device);
}
