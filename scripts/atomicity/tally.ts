// What the groups of a run came to, as tables.
import type { Plan } from './plan.ts';
import type { Played } from './world.ts';

interface Row {
  groups: number;
  restored: number;
  lost: number;
  undone: number;
  deaths: number;
}

export class Tally {
  readonly #rows = new Map<Plan['kind'], Row>();
  readonly #heldMs: number[] = [];
  readonly #waitMaxMs: number[] = [];
  #longestMs = 0;
  #unfenced = 0;
  #noticed = 0;
  groups = 0;

  take({ plan, taken, restored, deaths, longestWaitMs }: Played): void {
    const nothing = { groups: 0, restored: 0, lost: 0, undone: 0, deaths: 0 };
    const row = this.#rows.get(plan.kind) ?? nothing;
    this.#rows.set(plan.kind, row);
    this.groups++;
    row.groups++;
    row.deaths += deaths;
    if (!taken.kept) row.undone++;
    else if (restored) row.restored++;
    else row.lost++;
    this.#longestMs = Math.max(this.#longestMs, longestWaitMs);
    if (!taken.kept) return;
    this.#heldMs.push(...taken.released.map(({ heldMs }) => heldMs));
    this.#waitMaxMs.push(...taken.released.map(({ waitMaxMs }) => waitMaxMs));
  }

  takeUnfenced(noticed: boolean): void {
    this.#unfenced++;
    if (noticed) this.#noticed++;
  }

  render(): string {
    const rows = [...this.#rows].map(
      ([kind, { groups, restored, lost, undone, deaths }]) =>
        `| ${kind} | ${groups} | ${restored} | ${lost} | ${undone} | ${deaths} |`,
    );
    return [
      '| what happens | groups | kept and restored | kept, a moment lost with its process | undone | deaths |',
      '|---|---:|---:|---:|---:|---:|',
      ...rows,
      '',
      `fences of kept groups: p50 ${at(this.#heldMs, 0.5)} ms, p99 ${at(this.#heldMs, 0.99)} ms, ` +
        `longest ${at(this.#heldMs, 1)} ms; longest wait at one: p50 ${at(this.#waitMaxMs, 0.5)} ms, ` +
        `p99 ${at(this.#waitMaxMs, 0.99)} ms, longest ${at(this.#waitMaxMs, 1)} ms`,
      `longest write of a guest whose hosts were alive and reachable: ${Math.round(this.#longestMs)} ms`,
      `without fences: ${this.#noticed} of ${this.#unfenced} groups with violations`,
    ].join('\n');
  }
}

function at(values: readonly number[], share: number): string {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0).toFixed(1);
}
