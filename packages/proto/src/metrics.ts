// The metrics of one process, as Prometheus reads them. What is counted on hot paths is kept as plain numbers by who
// counts it, and read at the scrape. Kept apart from index.ts so that who has no metrics does not load it.
import {
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client';
import { METRICS, type NameOf } from './metrics-catalogue.ts';

export { METRICS, type MetricEntry, type MetricName, type MetricType } from './metrics-catalogue.ts';

/** One series: the values of its labels, in the order of the catalogue, and its number. */
export type Series = readonly [...labels: string[], value: number];

/** Bounds of one's own counting, and how many were at most that much; the rest is above all of them. */
export interface Buckets {
  readonly bounds: readonly number[];
  /** One more than bounds. */
  readonly counts: readonly number[];
  readonly sum: number;
}

export class ProcessMetrics {
  readonly #registry = new Registry();
  /** A scrape that failed in part shows the rest; what failed is told. */
  readonly #failed: (error: unknown) => void;

  /** `runtime`: with the metrics of process and runtime that the library has; one process has them once. */
  constructor(options: { failed: (error: unknown) => void; runtime?: boolean }) {
    this.#failed = options.failed;
    if (options.runtime !== false) collectDefaultMetrics({ register: this.#registry });
  }

  counter(name: NameOf<'counter'>): Counter {
    return new Counter({ name, ...this.#of(name) });
  }

  /** `bucketsSeconds`: upper bounds. */
  histogram(name: NameOf<'histogram'>, bucketsSeconds: readonly number[]): Histogram {
    return new Histogram({ name, ...this.#of(name), buckets: [...bucketsSeconds] });
  }

  /** Read at each scrape; what `read` leaves out is not shown, or as NaN where there are no labels. */
  gauge(name: NameOf<'gauge'>, read: () => readonly Series[] | Promise<readonly Series[]>): void {
    const failed = this.#failed;
    const labels: readonly string[] = METRICS[name].labels;
    new Gauge({
      name,
      ...this.#of(name),
      async collect() {
        this.reset();
        // The library shows one without labels as 0, which would be a claim.
        if (labels.length === 0) this.set(Number.NaN);
        try {
          for (const series of await read()) {
            const values = series.slice(0, -1) as string[];
            this.set(
              Object.fromEntries(labels.map((label, n) => [label, values[n]!])),
              series.at(-1) as number,
            );
          }
        } catch (error) {
          failed(error);
        }
      },
    });
  }

  /** As `gauge`, of numbers that only grow. */
  counted(name: NameOf<'counter'>, read: () => readonly Series[]): void {
    const labels: readonly string[] = METRICS[name].labels;
    new Counter({
      name,
      ...this.#of(name),
      collect() {
        this.reset();
        for (const series of read()) {
          const values = series.slice(0, -1) as string[];
          this.inc(
            Object.fromEntries(labels.map((label, n) => [label, values[n]!])),
            series.at(-1) as number,
          );
        }
      },
    });
  }

  /** A histogram without labels that is counted elsewhere. */
  bucketed(name: NameOf<'histogram'>, read: () => Buckets): void {
    const { help } = METRICS[name];
    const metric = { name, get: async () => histogramOf(name, help, read()) };
    this.#registry.registerMetric(metric as unknown as Histogram);
  }

  /** In Prometheus' text format. */
  async text(): Promise<{ contentType: string; body: string }> {
    return { contentType: this.#registry.contentType, body: await this.#registry.metrics() };
  }

  #of(name: keyof typeof METRICS) {
    const { help, labels } = METRICS[name];
    return { help, labelNames: [...labels], registers: [this.#registry] };
  }
}

function histogramOf(
  name: string,
  help: string,
  buckets: Buckets,
): MetricObjectWithValues<MetricValue<string>> {
  let total = 0;
  const values = buckets.counts.map((count, n) => {
    total += count;
    const le = buckets.bounds[n] ?? '+Inf';
    return { labels: { le }, value: total, metricName: `${name}_bucket` };
  });
  const ends = [
    { labels: {}, value: buckets.sum, metricName: `${name}_sum` },
    { labels: {}, value: total, metricName: `${name}_count` },
  ];
  return { name, help, type: 'histogram', values: [...values, ...ends], aggregator: 'sum' } as never;
}
