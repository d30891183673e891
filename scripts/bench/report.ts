// The figures as text: the median of ours, and of each other's beside it with the ratio to ours.

import { type DaemonFigures, SIDES } from './daemons.ts';
import type { ImageFigures } from './images.ts';
import type { Latency } from './latency.ts';
import { summarize } from './statistics.ts';
import type { Row } from './throughput.ts';

/** Columns as wide as their widest cell; the first one is text, the others are figures. */
function table(rows: readonly string[][]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map(row => row[column]!.length)));
  const lines = rows.map(row =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  '),
  );
  return lines.join('\n');
}

function figure(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);
}

/** `1,234 (1,100–1,300)`, with the ratio of the first column's median to it behind. */
function cell(values: readonly number[], ours: readonly number[], better: 'more' | 'less'): string {
  const { median, lowest, highest } = summarize(values);
  const text = `${figure(median)} (${figure(lowest)}–${figure(highest)})`;
  if (values === ours) return text;
  const reference = summarize(ours).median;
  const ratio = better === 'more' ? reference / median : median / reference;
  return `${text} ×${ratio.toFixed(2)}`;
}

export function throughputTable(names: readonly string[], rows: readonly Row[]): string {
  const lines = rows.map(({ title, unit, values }) => [
    `${title}, ${unit}`,
    ...values.map(list => cell(list, values[0]!, 'more')),
  ]);
  return table([['', ...names], ...lines]);
}

/** Seconds of each way, ours first. */
export function backupTable(ways: readonly { name: string; seconds: readonly number[] }[]): string {
  const lines = ways.map(({ name, seconds }) => [name, cell(seconds, ways[0]!.seconds, 'less')]);
  return table([['full backup', 'seconds'], ...lines]);
}

export function latencyTable(latencies: readonly Latency[]): string {
  const micros = ({ p50, p99, max }: Latency['alone']['latency']): string[] => [p50, p99, max].map(figure);
  const lines = latencies.flatMap(({ name, alone, during, covered }) => [
    [`${name}: no backup`, ...micros(alone.latency), figure(alone.requestsPerSecond)],
    [
      `${name}: during a backup${covered < 1 ? ` (${Math.round(covered * 100)} % of the time)` : ''}`,
      ...micros(during.latency),
      figure(during.requestsPerSecond),
    ],
  ]);
  return table([['4 KiB random write, 1 deep', 'p50 µs', 'p99 µs', 'max µs', 'requests/s'], ...lines]);
}

/** The two daemons side by side, in seconds. */
export function daemonTable({ full, increment, raw, copyRange, merge }: DaemonFigures): string {
  const lines = [
    ['full backup, raw to qcow2', full] as const,
    ['increment of 5 % scattered clusters', increment] as const,
    ['full backup, raw to raw', raw] as const,
    ['the same with use-copy-range', copyRange] as const,
    ['merge of 100 bitmaps of 1 TiB', merge] as const,
  ].map(([title, seconds]) => [title, ...SIDES.map(side => cell(seconds[side], seconds.tidemark, 'less'))]);
  return table([['daemon, seconds', ...SIDES], ...lines]);
}

/** What a guest of either daemon feels. */
export function filterTable({ latency }: DaemonFigures): string {
  const lines = latency.flatMap(({ title, results }) =>
    SIDES.map(side => {
      const { latency: micros, requestsPerSecond } = results[side];
      return [`${side}: ${title}`, ...[micros.p50, micros.p99, requestsPerSecond].map(figure)];
    }),
  );
  return table([['4 KiB random write, 1 deep', 'p50 µs', 'p99 µs', 'requests/s'], ...lines]);
}

/** Images in the hands of either: more is better above, less below. */
export function imageTables({ rates, times }: ImageFigures): string[] {
  const above = rates.map(({ title, unit, values }) => [
    `${title}, ${unit}`,
    ...SIDES.map(side => cell(values[side], values.tidemark, 'more')),
  ]);
  const below = times.map(({ title, values }) => [
    title,
    ...SIDES.map(side => cell(values[side], values.tidemark, 'less')),
  ]);
  return [table([['', ...SIDES], ...above]), table([['seconds', ...SIDES], ...below])];
}
