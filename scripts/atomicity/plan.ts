// What happens to one group, chosen by the seed: how long its coordinator takes between any two steps and to reach each
// host, and what fails where.
import type { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { FENCE_LIMIT_MS, HOSTS } from './limits.ts';

export const STEPS = ['prepare', 'fence', 'commit', 'release', 'decide'] as const;
export type Step = (typeof STEPS)[number];

/** Of the product, beside the hosts. */
const SERVICES = ['api', 'postgres', 'worker'] as const;
export type Service = (typeof SERVICES)[number];

export type Trouble =
  | { readonly kind: 'kill-service'; readonly service: Service }
  /** The worker dies between two steps of the group's run. */
  | { readonly kind: 'worker-point'; readonly point: string }
  | { readonly kind: 'cut'; readonly host: number; readonly forMs: number }
  | { readonly kind: 'kill'; readonly host: number }
  /** It dies between two of its durable steps. */
  | { readonly kind: 'kill-point'; readonly host: number; readonly point: string };

export interface Plan {
  readonly number: number;
  readonly kind: 'calm' | 'slow' | Trouble['kind'];
  /** Before each step. */
  readonly pauseMs: Readonly<Record<Step, number>>;
  /** Of each step, until each host is called. */
  readonly lagMs: Readonly<Record<Step, readonly number[]>>;
  readonly trouble: Trouble | undefined;
  /** It comes so long after the step's calls were sent; before the step's pause where it is negative. */
  readonly at: { readonly step: Step; readonly afterMs: number };
  /** Of a group whose backups are the product's own. */
  readonly completion: 'individual' | 'grouped';
}

/** The one that it is about; undefined: a service. */
export function hostOf(trouble: Trouble): number | undefined {
  return 'host' in trouble ? trouble.host : undefined;
}

/** What lies between the durable steps of a group, as storage nodes call it. */
const pointsOf = (way: Way) => [
  'write groups/*.json begins',
  'write groups/*.json synced',
  'write groups/*.json renamed',
  'write groups/*.json durable',
  'write volumes/*/bitmaps/* renamed',
  'write volumes/*/bitmaps/* durable',
  'write volumes/*/volume.json begins',
  'write volumes/*/volume.json renamed',
  'write volumes/*/volume.json durable',
  ...STEPS.flatMap(step =>
    ['begins', 'done'].map(moment => `call ${callOf(step)} ${DECIDED_AS[way][step] ?? step} ${moment}`),
  ),
];

/** Who calls a step by another name than its own. */
const DECIDED_AS: Readonly<Record<Way, Partial<Record<Step, string>>>> = {
  grpc: {},
  rest: { decide: 'keep' },
};

/** Those that a run of a group goes by, as the worker calls them. */
const WORKER_POINTS = ['prepare', 'instant', 'keep', 'start-backups', 'wait-for-backups'].flatMap(step =>
  ['begun', 'done, not recorded', 'recorded'].map(moment => `create-group ${step} ${moment}`),
);

/** By the one who takes the group's steps: the suite itself, or the product. */
const KINDS_OF = {
  grpc: ['calm', 'slow', 'cut', 'kill', 'kill', 'kill-point', 'kill-point'],
  rest: [
    ...(['calm', 'slow', 'cut', 'kill', 'kill-point', 'kill-point'] as const),
    ...(['kill-service', 'kill-service', 'worker-point'] as const),
  ],
} as const;

export function callOf(step: Step): string {
  return `${step[0]!.toUpperCase()}${step.slice(1)}Group`;
}

export type Way = keyof typeof KINDS_OF;

export function planGroup(random: SeededRandom, { number, way }: { number: number; way: Way }): Plan {
  const kind = random.pick<Plan['kind']>(KINDS_OF[way]);
  const mostMs = kind === 'slow' ? FENCE_LIMIT_MS : 20;
  const each = <T>(make: () => T) => Object.fromEntries(STEPS.map(step => [step, make()])) as Record<Step, T>;
  const lags = () => Array.from({ length: HOSTS }, () => random.int(0, random.chance(0.3) ? 40 : 3));
  return {
    number,
    kind,
    pauseMs: each(() => (random.chance(0.5) ? 0 : random.int(0, mostMs))),
    lagMs: each(lags),
    trouble: troubleOf(random, { kind, way }),
    at: { step: random.pick(STEPS), afterMs: random.chance(0.4) ? -1 : random.int(0, 15) },
    completion: random.chance(0.5) ? 'grouped' : 'individual',
  };
}

function troubleOf(
  random: SeededRandom,
  { kind, way }: { kind: Plan['kind']; way: Way },
): Trouble | undefined {
  const host = random.int(0, HOSTS - 1);
  if (kind === 'slow' && way === 'rest') return { kind: 'cut', host, forMs: random.int(5, 150) };
  if (kind === 'kill-service') return { kind, service: random.pick(SERVICES) };
  if (kind === 'worker-point') return { kind, point: random.pick(WORKER_POINTS) };
  if (kind === 'cut') return { kind, host, forMs: random.int(20, 2_500) };
  if (kind === 'kill') return { kind, host };
  if (kind === 'kill-point') return { kind, host, point: random.pick(pointsOf(way)) };
  return undefined;
}
