// What happens to one group, chosen by the seed: how long its coordinator takes between any two steps and to reach each
// host, and what fails where.
import type { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { FENCE_LIMIT_MS, HOSTS } from './limits.ts';

export const STEPS = ['prepare', 'fence', 'commit', 'release', 'decide'] as const;
export type Step = (typeof STEPS)[number];

export type Trouble =
  | { readonly kind: 'cut'; readonly host: number; readonly forMs: number }
  | { readonly kind: 'kill'; readonly host: number }
  /** It dies between two of its durable steps. */
  | { readonly kind: 'kill-point'; readonly host: number; readonly point: string };

export interface Plan {
  readonly number: number;
  readonly kind: 'calm' | 'slow' | 'cut' | 'kill' | 'kill-point';
  /** Before each step. */
  readonly pauseMs: Readonly<Record<Step, number>>;
  /** Of each step, until each host is called. */
  readonly lagMs: Readonly<Record<Step, readonly number[]>>;
  readonly trouble: Trouble | undefined;
  /** It comes so long after the step's calls were sent; before the step's pause where it is negative. */
  readonly at: { readonly step: Step; readonly afterMs: number };
}

/** What lies between the durable steps of a group, as storage nodes call it. */
const POINTS = [
  'write groups/*.json begins',
  'write groups/*.json synced',
  'write groups/*.json renamed',
  'write groups/*.json durable',
  'write volumes/*/bitmaps/* renamed',
  'write volumes/*/bitmaps/* durable',
  'write volumes/*/volume.json begins',
  'write volumes/*/volume.json renamed',
  'write volumes/*/volume.json durable',
  ...STEPS.flatMap(step => [`call ${callOf(step)} ${step} begins`, `call ${callOf(step)} ${step} done`]),
];

const KINDS = ['calm', 'slow', 'cut', 'kill', 'kill', 'kill-point', 'kill-point'] as const;

export function callOf(step: Step): string {
  return `${step[0]!.toUpperCase()}${step.slice(1)}Group`;
}

export function planGroup(random: SeededRandom, number: number): Plan {
  const kind = random.pick(KINDS);
  const mostMs = kind === 'slow' ? FENCE_LIMIT_MS : 20;
  const each = <T>(make: () => T) => Object.fromEntries(STEPS.map(step => [step, make()])) as Record<Step, T>;
  const lags = () => Array.from({ length: HOSTS }, () => random.int(0, random.chance(0.3) ? 40 : 3));
  return {
    number,
    kind,
    pauseMs: each(() => (random.chance(0.5) ? 0 : random.int(0, mostMs))),
    lagMs: each(lags),
    trouble: troubleOf(random, kind),
    at: { step: random.pick(STEPS), afterMs: random.chance(0.4) ? -1 : random.int(0, 15) },
  };
}

function troubleOf(random: SeededRandom, kind: Plan['kind']): Trouble | undefined {
  const host = random.int(0, HOSTS - 1);
  if (kind === 'cut') return { kind, host, forMs: random.int(20, 2_500) };
  if (kind === 'kill') return { kind, host };
  if (kind === 'kill-point') return { kind, host, point: random.pick(POINTS) };
  return undefined;
}
