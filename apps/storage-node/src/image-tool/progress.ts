// `-p`: how much is done, in percent.
import type { ToolOutput } from './tool.ts';

const STEP_PERCENT = 2;

export class ProgressLine {
  readonly #output: ToolOutput | undefined;
  readonly #totalBytes: number;
  #shown = Number.NEGATIVE_INFINITY;

  /** Without an output nothing is shown. */
  constructor(totalBytes: number, output: ToolOutput | undefined) {
    this.#totalBytes = totalBytes;
    this.#output = output;
    this.update(0);
  }

  update(doneBytes: number): void {
    const percent = this.#totalBytes === 0 ? 100 : Math.min(100, (100 * doneBytes) / this.#totalBytes);
    if (percent - this.#shown < STEP_PERCENT && !(percent === 0 && this.#shown < 0)) return;
    this.#show(percent);
  }

  /** All is done. */
  full(): void {
    if (this.#shown < 100) this.#show(100);
  }

  /** Leaves the line. */
  end(): void {
    this.full();
    this.#output?.out('\n');
  }

  #show(percent: number): void {
    this.#shown = percent;
    this.#output?.out(`    (${percent.toFixed(2)}/100%)\r`);
  }
}
