// One round: guests write, operations run, one process dies; then everything is back and every check holds.
import { setTimeout as delay } from 'node:timers/promises';
import { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { CareRepertoire } from './care-repertoire.ts';
import type { Circumstances } from './checks/allowed-ends.ts';
import { checkKinds } from './checks/backup-kind-check.ts';
import { checkBitmaps } from './checks/bitmap-check.ts';
import { checkCare } from './checks/care-check.ts';
import { checkBackups, checkGuest, checkRestores, type Findings } from './checks/contents-check.ts';
import { checkFacts } from './checks/fact-check.ts';
import { checkFirings, noteFired } from './checks/firing-check.ts';
import { checkGroups } from './checks/group-check.ts';
import { checkDifferences, checkLeftovers } from './checks/leftover-check.ts';
import { checkDeliveries, checkEvents } from './checks/live-check.ts';
import { checkRules } from './checks/rule-check.ts';
import { checkRuns } from './checks/run-check.ts';
import { checkUnasked, countRulePrunes } from './checks/unasked-check.ts';
import { FleetRepertoire } from './fleet-repertoire.ts';
import { MOMENT_MS_MAX, POINT_WAIT_MS, POLL_MS, ROUNDS_A_RECONCILIATION, SLEEP_MS } from './limits.ts';
import { type Operation, Operations } from './operation.ts';
import { Repertoire } from './repertoire.ts';
import { roundNames } from './round-names.ts';
import { kill, type PointLog, type PointOrder, pidOf, processesOf, SERVICES } from './victims.ts';
import type { Disk, Queue, World } from './world.ts';

/** Points armed at once: of one alone most rounds would see nothing. */
const ORDERS = 8;

/** How often each is killed, of a hundred. */
const VICTIMS: readonly [victim: string, share: number][] = [
  ['alpha', 24],
  ['beta', 24],
  ['gamma', 10],
  ['worker', 24],
  ['api', 11],
  ['postgres', 11],
];
/** Where it is the queue, as often as the most frequent others: half of the installations have none. */
const REDIS_SHARE = 24;
/** Of a worker being taken for dead. */
const SLEEP_CHANCE = 0.25;
/** Of several of one kind dying together. */
const ALL_CHANCE = 0.2;

export interface Plan {
  readonly number: number;
  readonly seed: number;
  /** A service of that name; of several the one that passes a point first. */
  readonly victim: string;
  /** At a moment: which of several; `all` of them at once. */
  readonly which: number | 'all';
  /** It dies at the first of these that it passes; none: at a random moment. */
  readonly orders: readonly PointOrder[];
  readonly momentMs: number;
  /** A worker that does not die: it stands still for longer than its leases, and then goes on. */
  readonly sleeps: boolean;
  /** Points in time are taken while the guest rests. */
  readonly isQuiet: boolean;
  /** Redis has lost all that it had when it comes back. */
  readonly losesQueue: boolean;
}

export interface RoundResult extends Findings {
  readonly plan: Plan;
  readonly operations: readonly Operation[];
  /** Undefined: it was killed as it was. */
  readonly killedAt: string | undefined;
  readonly ms: number;
}

/** Decided by seed and number, by the kind of queue, and by which points have been seen. */
export function planRound(
  { seed, number, queue }: { seed: number; number: number; queue: Queue },
  points: PointLog,
): Plan {
  const random = new SeededRandom(seed * 100_003 + number);
  const victim = chooseVictim(random, queue);
  const isAtPoint = random.chance(0.65);
  const sleeps = random.chance(SLEEP_CHANCE) && victim === 'worker';
  const seen = SERVICES.some(service => service === victim) ? points.pointsOf(victim) : [];
  const rareFirst = seen.sort((a, b) => a.killed - b.killed || (a.name < b.name ? -1 : 1));
  const candidates = rareFirst.slice(0, Math.max(Math.ceil(seen.length / 2), ORDERS));
  const orders = Array.from({ length: Math.min(ORDERS, candidates.length) }, () => ({
    point: random.pick(candidates).name,
    count: random.pick([1, 1, 2]),
  }));
  return {
    number,
    seed,
    victim,
    orders: isAtPoint && !sleeps ? orders : [],
    momentMs: random.int(0, MOMENT_MS_MAX),
    which: random.chance(ALL_CHANCE) ? 'all' : random.int(0, 1),
    sleeps,
    isQuiet: random.chance(0.4),
    losesQueue: random.chance(0.5) && victim === 'redis',
  };
}

function chooseVictim(random: SeededRandom, queue: Queue): string {
  const all = queue === 'redis' ? [...VICTIMS, ['redis', REDIS_SHARE] as const] : VICTIMS;
  let dice = random.int(
    1,
    all.reduce((sum, [, share]) => sum + share, 0),
  );
  return all.find(([, share]) => {
    dice -= share;
    return dice <= 0;
  })![0];
}

/** Rejects when something hangs. */
export async function playRound(world: World, plan: Plan, points: PointLog): Promise<RoundResult> {
  const startedAt = performance.now();
  const random = new SeededRandom(plan.seed * 7919 + plan.number);
  const operations = new Operations(world, random, { isQuiet: plan.isQuiet });
  const name = roundNames(plan.number);
  const repertoire = new Repertoire(world, random, { operations, name, number: plan.number });
  const findings: Findings = { faults: [], counts: new Map() };
  for (const { guest } of world.disks) {
    guest.move();
    await guest.start();
  }
  const fleet = new FleetRepertoire(world, random, { operations, name });
  const care = new CareRepertoire(world, random, { operations, name });
  const performing = Promise.all([
    repertoire.perform(),
    fleet.perform(),
    care.perform(),
    world.facts.perform(random, `r${plan.number}`),
  ]).then(() => {});
  const isAtPoint = await strike(world, plan, { points, performing });
  await performing;
  await world.servicesAreBack();
  await operations.resumePaused();
  await world.runsHaveEnded();
  // A point that is passed while the services recover kills again; from here on none may.
  points.disarm();
  await world.servicesAreBack();
  await checkRules(world, findings);
  await world.runsHaveEnded();
  for (const disk of world.disks) await settle(disk);
  points.look();
  const rulePrunes = await countRulePrunes(world);
  if (rulePrunes > 0) for (const { proven } of world.disks) proven.clear();
  const circumstances = { operations: operations.done, victim: plan.victim, rulePrunes };
  await checkAll(world, plan, { circumstances, findings, random });
  return {
    plan,
    operations: operations.done,
    killedAt: isAtPoint ? points.lastOf(plan.victim) : undefined,
    ms: performance.now() - startedAt,
    ...findings,
  };
}

/** Its guest rests; nobody takes points in time any more. */
async function settle({ guest, known }: Disk): Promise<void> {
  await guest.rest();
  const now = guest.model.now();
  for (const [name, { window }] of known) {
    if (window.to === Number.POSITIVE_INFINITY) known.set(name, { name, window: { ...window, to: now } });
  }
}

async function checkAll(
  world: World,
  plan: Plan,
  {
    circumstances,
    findings,
    random,
  }: { circumstances: Circumstances; findings: Findings; random: SeededRandom },
): Promise<void> {
  const isThorough = plan.number % ROUNDS_A_RECONCILIATION === 0;
  await noteFired(world);
  await checkFacts(world, findings);
  await checkRuns(world, { circumstances, findings });
  await checkUnasked(world, { circumstances, findings });
  await checkGroups(world, { circumstances, findings });
  await checkFirings(world, { circumstances, findings });
  for (const disk of world.disks) {
    await checkKinds(world, disk, { circumstances, findings });
    await checkGuest(disk, findings);
    await checkBackups(world, disk, { findings, random });
    await checkBitmaps(world, disk, findings);
  }
  await checkCare(world, { circumstances, findings });
  await checkLeftovers(world, findings);
  if (isThorough) await checkDifferences(world, findings);
  await checkRestores(world, findings);
  await checkEvents(world, findings);
  await checkDeliveries(world, findings);
}

/** Afterwards the victim has died: at its point where it passed it in time, otherwise as it was. */
async function strike(
  world: World,
  plan: Plan,
  { points, performing }: { points: PointLog; performing: Promise<void> },
): Promise<boolean> {
  const { victim, orders } = plan;
  if (orders.length === 0) {
    await delay(plan.momentMs);
    if (plan.losesQueue) world.queueServer!.loseData();
    if (plan.sleeps) await sleep(world, plan);
    else killChosen(world, plan);
    return false;
  }
  const names = processesOf(world, victim);
  const pids = names.map(name => pidOf(world, name));
  points.arm(victim, orders);
  let isOver = false;
  void performing.finally(() => {
    isOver = true;
  });
  const deadline = performance.now() + POINT_WAIT_MS;
  while (names.every((name, index) => pidOf(world, name) === pids[index])) {
    if (isOver || performance.now() > deadline) {
      // It stays armed: what is passed while it recovers counts too.
      killChosen(world, plan);
      return false;
    }
    await delay(POLL_MS);
  }
  return true;
}

function killChosen(world: World, plan: Plan): void {
  for (const name of chosenOf(world, plan)) kill(world, name);
}

async function sleep(world: World, plan: Plan): Promise<void> {
  const names = chosenOf(world, plan);
  for (const name of names) kill(world, name, 'SIGSTOP');
  await delay(SLEEP_MS);
  for (const name of names) kill(world, name, 'SIGCONT');
}

function chosenOf(world: World, { victim, which }: Plan): string[] {
  const names = processesOf(world, victim);
  return which === 'all' ? names : [names[which % names.length]!];
}
