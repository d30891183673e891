// Follows a run to its end: a bar where somebody looks, lines where nobody does.
import {
  looksAt,
  requireSuccess,
  type Schema,
  type TidemarkClient,
  UnreachableFailure,
} from '@tidemark/client';
import { PROGRESS_LINE_MS } from './limits.ts';
import type { Output } from './output.ts';
import { ProgressBar } from './progress-bar.ts';
import { formatSize } from './sizes.ts';

type Run = Schema<'Run'>;

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
  client: TidemarkClient,
  output: Output,
  started: Run,
  isThere: (run: Run) => boolean = () => false,
): Promise<Run> {
  const stream = output.progressStream;
  const progress: Progress = stream.isTTY ? new ProgressBar(stream) : new ProgressLines(output);
  let run = started;
  try {
    for await (run of looksAt(client, started)) {
      progress.update(run);
      if (isThere(run)) break;
    }
  } catch (error) {
    if (!(error instanceof UnreachableFailure)) throw error;
    const { kind, id } = started;
    const next = `The ${kind} run goes on without this command; follow it with: tidemark run watch ${id}`;
    throw new UnreachableFailure(`${error.message}\n${next}`, error);
  }
  progress.end(run);
  requireSuccess(run);
  return run;
}
