// `npm run test:crash -- --rounds N --seed S`: rounds of guests, operations and kills on the real services. Ends with
// the two lines of outcome.ts; exit code 1 when a round failed.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { optionsOf, positiveNumber, wholeNumber } from '../process/options.ts';
import { outcomeLines } from '../testing/outcome.ts';
import { ROUND_MS_MAX, ROUNDS_OF_A_WORLD } from './limits.ts';
import { redisIsInstalled } from './queue-server.ts';
import { type Plan, planRound, playRound, type RoundResult } from './round.ts';
import { Tally } from './tally.ts';
import { PointLog } from './victims.ts';
import { World } from './world.ts';

const OPTIONS = {
  options: {
    rounds: { type: 'string', default: '40' },
    seed: { type: 'string', default: '1' },
    /** No new round begins after this. */
    minutes: { type: 'string', default: '1000' },
    /** Fewer than these are a failure. */
    'at-least': { type: 'string', default: '1' },
    /** Rounds on one installation. */
    'world-rounds': { type: 'string', default: String(ROUNDS_OF_A_WORLD) },
    /** How many of each there are; by default one or two, by turns. */
    apis: { type: 'string' },
    workers: { type: 'string' },
    /** Where the tables go, instead of the output. */
    report: { type: 'string' },
    /** What is left of a failed world stays. */
    keep: { type: 'boolean', default: false },
    /** Go on after a failed round, in a new world. */
    all: { type: 'boolean', default: false },
  },
} as const;
const { rounds, seed, minutes, atLeast, roundsOfAWorld, processes, ...chosen } = optionsOf(() => {
  const { values } = parseArgs(OPTIONS);
  const { apis, workers } = values;
  return {
    ...values,
    rounds: wholeNumber('rounds', values.rounds),
    seed: wholeNumber('seed', values.seed, { least: 0 }),
    minutes: positiveNumber('minutes', values.minutes),
    atLeast: wholeNumber('at-least', values['at-least'], { least: 0 }),
    roundsOfAWorld: wholeNumber('world-rounds', values['world-rounds']),
    processes: {
      ...(apis !== undefined && { apis: wholeNumber('apis', apis) }),
      ...(workers !== undefined && { workers: wholeNumber('workers', workers) }),
    },
  };
});
const hasRedis = redisIsInstalled();
const until = performance.now() + minutes * 60_000;
const folder = mkdtempSync(join(tmpdir(), 'tidemark-crash-'));
const points = new PointLog(join(folder, 'points'));
const tally = new Tally();
let world: World | undefined;
let worlds = 0;
let roundsOfWorld = 0;
let failed = 0;
let stopping = false;

async function nextWorld(): Promise<World> {
  await world?.close();
  worlds += 1;
  const queue = worlds % 2 === 0 && hasRedis ? 'redis' : 'postgres';
  roundsOfWorld = 0;
  const home = join(folder, `world-${worlds}`);
  mkdirSync(home);
  world = undefined;
  const compileCache = join(folder, 'compile-cache');
  // Each number with either queue in any four worlds.
  const byTurns = worlds % 4 < 2 ? 2 : 1;
  const { apis = byTurns, workers = byTurns } = processes;
  const shared = { killPoints: points.folder, compileCache, seed: seed + worlds };
  const options = { home, ...shared, queue, apis, workers } as const;
  // Only a process that ends in order leaves what it has compiled.
  if (worlds === 1) await (await World.create({ ...options, home: join(home, 'first') })).close();
  world = await World.create(options);
  return world;
}

/** Rejects when no installation comes about. */
async function play(number: number): Promise<boolean> {
  const here = world === undefined || roundsOfWorld >= roundsOfAWorld ? await nextWorld() : world;
  roundsOfWorld += 1;
  const queue = here.queueServer === undefined ? 'postgres' : 'redis';
  const plan = planRound({ seed, number, queue }, points);
  const result = await inTime(playRound(here, plan, points)).catch((error: unknown) => {
    points.disarm();
    tally.takeBroken();
    tell(plan, [textOf(error)], here);
  });
  if (result !== undefined) {
    tally.take(result, here.shape);
    report(result);
    if (result.faults.length === 0) return true;
    tell(plan, result.faults, here);
  }
  world = undefined;
  await here.close();
  return false;
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Rejects when the round takes so long that something hangs, in a service or in the suite. */
async function inTime<T>(round: Promise<T>): Promise<T> {
  const done = new AbortController();
  const late = delay(ROUND_MS_MAX, undefined, { signal: done.signal }).then(() => {
    throw new Error(`the round did not end within ${ROUND_MS_MAX / 1000} s`);
  });
  try {
    return await Promise.race([round, late]);
  } finally {
    done.abort();
    late.catch(() => {});
  }
}

function report({ plan, killedAt, operations, ms, faults }: RoundResult): void {
  const moment = plan.orders.length === 0 ? `after ${plan.momentMs} ms` : 'late';
  const at = killedAt === undefined ? moment : `at '${killedAt}'`;
  const ends = operations.map(({ kind, end }) => `${kind} ${end}`).join(', ');
  const verdict = faults.length === 0 ? '✓' : '✗';
  console.log(`${verdict} ${plan.number} ${plan.victim} ${at} (${(ms / 1000).toFixed(1)} s): ${ends}`);
  for (const { kind, end, error, run } of operations) {
    if (end === 'failed') console.log(`  ${kind} ${run?.id}: ${error?.code}: ${error?.message}`);
  }
}

function tell(plan: Plan, faults: readonly string[], where: World): void {
  console.log(`✗ round ${plan.number} of seed ${seed} failed: ${JSON.stringify(plan)}`);
  for (const fault of faults) console.log(`  ${fault}`);
  for (const notice of where.takeNotices().slice(-6)) console.log(`  (${notice})`);
  console.log(
    `  repeat: npm run test:crash -- --seed ${seed} --rounds ${plan.number}; state: ${where.stack.home}`,
  );
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    stopping = true;
  });
}

if (!hasRedis && process.env.CI !== undefined) {
  console.log(`✗ redis-server is not installed\n\n${outcomeLines({ passed: 0, failed: 1, skipped: [] })}`);
  process.exit(1);
}
for (let number = 1; number <= rounds && !stopping && performance.now() < until; number += 1) {
  try {
    if (await play(number)) continue;
  } catch (error) {
    console.log(`✗ round ${number} found no installation: ${textOf(error)}`);
    tally.takeBroken();
    world = undefined;
  }
  failed += 1;
  if (!chosen.all) break;
}
const passed = tally.rounds - failed;
if (tally.rounds < atLeast) {
  console.log(`✗ ${tally.rounds} rounds were played, and at least ${atLeast} were to be`);
  failed += 1;
}
await world?.close();
const tables = tally.render(points);
if (chosen.report !== undefined) writeFileSync(chosen.report, `${tables}\n`);
else console.log(`\n${tables}`);
if (failed === 0 || !chosen.keep) rmSync(folder, { recursive: true });
const skipped = hasRedis ? [] : ['crash rounds with Redis as the queue: redis-server is not installed'];
console.log(`\n${outcomeLines({ passed, failed, skipped })}`);
process.exit(failed > 0 ? 1 : 0);
