// How far runs are, for as long as somebody follows: looked up once for all streams, and told when it has changed.
import type { Catalog, RunningRun } from '@tidemark/catalog';
import { RUN_PROGRESS_MAX } from '../limits.ts';

export class RunProgressWatch {
  readonly #catalog: Catalog;
  #known = new Map<string, { run: RunningRun; text: string }>();

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
  }

  /** As of the last look. */
  get running(): RunningRun[] {
    return [...this.#known.values()].map(({ run }) => run);
  }

  /** Looks, and returns what is new since the last look. */
  async look(): Promise<RunningRun[]> {
    const runs = await this.#catalog.runs.listRunning(RUN_PROGRESS_MAX);
    const known = new Map(runs.map(run => [run.id, { run, text: JSON.stringify(run) }]));
    const changed = runs.filter(({ id }) => known.get(id)!.text !== this.#known.get(id)?.text);
    this.#known = known;
    return changed;
  }

  /** Nobody follows any more. */
  forget(): void {
    this.#known.clear();
  }
}
