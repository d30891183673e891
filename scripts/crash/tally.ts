// What all rounds came to, for people: rounds, kills by process and by point, operations and how they ended, checks.
import type { RoundResult } from './round.ts';
import { type PointLog, SERVICES } from './victims.ts';

export class Tally {
  readonly #victims = new Map<string, number>();
  readonly #shapes = new Map<string, number>();
  readonly #operations = new Map<string, number>();
  readonly #checks = new Map<string, number>();
  readonly #refusals = new Map<string, number>();
  #rounds = 0;
  #broken = 0;
  #ms = 0;

  /** All that were begun. */
  get rounds(): number {
    return this.#rounds + this.#broken;
  }

  /** A round that did not get to its end. */
  takeBroken(): void {
    this.#broken += 1;
  }

  take(result: RoundResult, shape: string): void {
    this.#rounds += 1;
    this.#ms += result.ms;
    const when = result.killedAt === undefined ? 'at a moment' : 'at a point';
    add(this.#victims, `${result.plan.victim} ${result.plan.sleeps ? 'asleep for a while' : when}`);
    if (result.plan.losesQueue) add(this.#victims, 'redis, its data lost');
    add(this.#shapes, shape);
    for (const { kind, end, error } of result.operations) {
      add(this.#operations, `${kind} ${end}`);
      if (error !== undefined) add(this.#refusals, `${end}: ${error.code}`);
    }
    for (const [what, count] of result.counts) add(this.#checks, what, count);
  }

  /** Markdown, as it stands in docs/RELIABILITY.md. */
  render(points: PointLog): string {
    const seconds = (this.#ms / 1000 / Math.max(this.#rounds, 1)).toFixed(1);
    return [
      `${this.#rounds} rounds, ${seconds} s each${this.#broken > 0 ? `; ${this.#broken} more broke off` : ''}.`,
      table('killed', this.#victims),
      table('rounds by installation', this.#shapes),
      table('operations and their ends', this.#operations),
      table('errors that were told', this.#refusals),
      table('checks', this.#checks),
      ...SERVICES.map(service => pointTable(service, points)),
    ].join('\n\n');
  }
}

function add(counts: Map<string, number>, name: string, by = 1): void {
  counts.set(name, (counts.get(name) ?? 0) + by);
}

function table(title: string, counts: ReadonlyMap<string, number>): string {
  const rows = [...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, count]) => `| ${name} | ${count} |`);
  return [`| ${title} | |`, '|---|---:|', ...rows].join('\n');
}

function pointTable(service: string, points: PointLog): string {
  const all = points.pointsOf(service).sort((a, b) => (a.name < b.name ? -1 : 1));
  const hit = all.filter(({ killed }) => killed > 0).length;
  const rows = all.map(({ name, passed, killed }) => `| ${name} | ${passed} | ${killed} |`);
  const title = `| ${service}: ${hit} of ${all.length} points hit | passed | killed |`;
  return [title, '|---|---:|---:|', ...rows].join('\n');
}
