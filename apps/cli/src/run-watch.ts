// Follows a run to its end: a bar where somebody looks, lines where nobody does.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Run } from './answers.ts';
import { type Client, ProblemFailure, UnreachableFailure } from './client.ts';
import { PROGRESS_LINE_MS, WATCH_FIRST_MS, WATCH_GROWTH, WATCH_MAX_MS } from './limits.ts';
import type { Output } from './output.ts';
import { ProgressBar } from './progress-bar.ts';
import { formatSize } from './sizes.ts';

export const hasEnded = (run: Run): boolean => run.state !== 'queued' && run.state !== 'running';

interface Progress {
  update(run: Run): void;
  end(run: Run): void;
}

/** One line when the step changes, and now and then while bytes move. */
class ProgressLines implements Progress {
  readonly #output: Output;
  #step = '';
  #nextAt = 0;

  constructor(output: Output) {
    this.#output = output;
  }

  update(run: Run): void {
    const step = run.steps.at(-1)?.name ?? run.state;
    const { currentBytes, totalBytes } = run.progress;
    const now = performance.now();
    if (step === this.#step && (totalBytes === 0 || now < this.#nextAt)) return;
    this.#step = step;
    this.#nextAt = now + PROGRESS_LINE_MS;
    const bytes = totalBytes > 0 ? ` ${formatSize(currentBytes)} of ${formatSize(totalBytes)}` : '';
    this.#output.note(`${run.kind} ${run.id}: ${step}${bytes}`);
  }

  end(run: Run): void {
    this.#output.note(`${run.kind} ${run.id}: ${run.state}`);
  }
}

/** Returns the run when it has succeeded, or is as far as wanted; rejects with its own failure otherwise. */
export async function watchRun(
  client: Client,
  output: Output,
  started: Run,
  isThere: (run: Run) => boolean = () => false,
): Promise<Run> {
  const stream = output.progressStream;
  const progress: Progress = stream.isTTY ? new ProgressBar(stream) : new ProgressLines(output);
  let run = started;
  progress.update(run);
  for (
    let pauseMs = WATCH_FIRST_MS;
    !hasEnded(run) && !isThere(run);
    pauseMs = Math.min(pauseMs * WATCH_GROWTH, WATCH_MAX_MS)
  ) {
    await sleep(pauseMs);
    run = await lookAt(client, run);
    progress.update(run);
  }
  progress.end(run);
  requireSuccess(run);
  return run;
}

async function lookAt(client: Client, { kind, id }: Run): Promise<Run> {
  try {
    return await client.get<Run>(`/v1/runs/${id}`);
  } catch (error) {
    if (!(error instanceof UnreachableFailure)) throw error;
    const next = `The ${kind} run goes on without this command; follow it with: tidemark run watch ${id}`;
    throw new UnreachableFailure(`${error.message}\n${next}`, error);
  }
}

/** Passes a run that has succeeded, or goes on; throws the failure of any other. */
export function requireSuccess(run: Run): void {
  if (run.state === 'cancelled') {
    const detail = run.ending ?? `The ${run.kind} run ${run.id} was cancelled.`;
    throw new ProblemFailure({ title: 'The run was cancelled', detail, code: 'run-cancelled' });
  }
  if (run.state !== 'failed') return;
  const { code, message } = run.error ?? { code: 'internal-error', message: 'It left no reason.' };
  throw new ProblemFailure({ title: `The ${run.kind} run ${run.id} failed`, detail: message, code });
}
