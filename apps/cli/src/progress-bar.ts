// The bar of one run on a terminal.

import type { Schema } from '@tidemark/client';
import { Presets, SingleBar } from 'cli-progress';
import { formatSize } from './sizes.ts';

export class ProgressBar {
  readonly #bar: SingleBar;
  #started = false;

  constructor(stream: NodeJS.WritableStream) {
    const format = '{kind} [{bar}] {percentage}% | {bytes} | {step}';
    this.#bar = new SingleBar({ format, stream, hideCursor: true, fps: 10 }, Presets.shades_classic);
  }

  update(run: Schema<'Run'>): void {
    const { currentBytes, totalBytes } = run.progress;
    const bytes = totalBytes > 0 ? `${formatSize(currentBytes)} of ${formatSize(totalBytes)}` : '-';
    const payload = { kind: run.kind, bytes, step: run.steps.at(-1)?.name ?? run.state };
    const total = Math.max(totalBytes, 1);
    if (!this.#started) this.#bar.start(total, currentBytes, payload);
    this.#started = true;
    this.#bar.setTotal(total);
    this.#bar.update(currentBytes, payload);
  }

  end(run: Schema<'Run'>): void {
    const total = this.#bar.getTotal();
    if (run.state === 'succeeded') this.#bar.update(total, { step: 'done' });
    else this.#bar.update({ step: run.state });
    this.#bar.stop();
  }
}
