// `npm run test:atomicity -- --groups N --seed S`: groups over three hosts while guests write in causal order, links
// are cut and storage nodes killed; then the same without fences, which has to be noticed. Ends with the two lines of
// outcome.ts; exit code 1 when anything failed.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { oneOf, optionsOf, positiveNumber, wholeNumber } from '../process/options.ts';
import { outcomeLines } from '../testing/outcome.ts';
import { FENCE_LIMIT_MS, UNFENCED_GROUPS_MAX, UNFENCED_PAUSE_MS, WAIT_TOLERANCE_MS } from './limits.ts';
import { whyNoNetwork } from './network.ts';
import { hostOf, type Plan, planGroup, STEPS, type Trouble, type Way } from './plan.ts';
import { Tally } from './tally.ts';
import { type Played, World } from './world.ts';

const OPTIONS = {
  options: {
    groups: { type: 'string', default: '40' },
    seed: { type: 'string', default: '1' },
    /** Who takes the groups' steps: the product (rest), or the suite itself (grpc). */
    through: { type: 'string', default: 'rest' },
    /** No new group begins after this. */
    minutes: { type: 'string', default: '1000' },
    /** Fewer than these are a failure. */
    'at-least': { type: 'string', default: '1' },
    /** Where the tables go, instead of the output. */
    report: { type: 'string' },
    /** What is left of a failed installation stays. */
    keep: { type: 'boolean', default: false },
  },
} as const;
const { groups, seed, way, minutes, atLeast, report, keep } = optionsOf(() => {
  const { values } = parseArgs(OPTIONS);
  return {
    ...values,
    groups: wholeNumber('groups', values.groups),
    seed: wholeNumber('seed', values.seed, { least: 0 }),
    way: oneOf<Way>('through', values.through, ['rest', 'grpc']),
    minutes: positiveNumber('minutes', values.minutes),
    atLeast: wholeNumber('at-least', values['at-least'], { least: 0 }),
  };
});
const folder = mkdtempSync(join(tmpdir(), 'tidemark-atomicity-'));
const tally = new Tally();
let passed = 0;
let failed = 0;
let stopping = false;

async function withWorld(
  options: { fenced: boolean; way: Way },
  play: (world: World) => Promise<void>,
): Promise<void> {
  const home = join(folder, options.fenced ? 'fenced' : 'unfenced');
  mkdirSync(home);
  const world = await World.create(home, options);
  try {
    await play(world);
  } finally {
    await world.close();
  }
}

/** Ends with the first group that fails. */
async function playFenced(world: World): Promise<void> {
  const until = performance.now() + minutes * 60_000;
  for (let number = 1; number <= groups; number++) {
    if (stopping || performance.now() > until) return;
    // Each by itself: a group is repeated without those before it.
    const plan = planGroup(new SeededRandom(seed * 100_003 + number), { number, way });
    const played = await world.play(plan);
    const limitMs = FENCE_LIMIT_MS + WAIT_TOLERANCE_MS;
    if (played.longestWaitMs > limitMs) {
      played.faults.push(`a guest's write took ${Math.round(played.longestWaitMs)} ms`);
    }
    tally.take(played);
    tell(played);
    if (played.faults.length > 0) {
      failed++;
      return;
    }
    passed++;
  }
}

async function playUnfenced(world: World): Promise<void> {
  for (let number = 1; number <= UNFENCED_GROUPS_MAX && !stopping; number++) {
    const { faults, restored } = await world.play(slowCommits(number));
    if (!restored) continue;
    tally.takeUnfenced(faults.length > 0);
    if (faults.length === 0) continue;
    console.log(`✓ without fences it is noticed, at group ${number}: ${faults[0]}`);
    passed++;
    return;
  }
  console.log(
    `✗ without fences ${UNFENCED_GROUPS_MAX} groups showed no violation: the suite would notice none`,
  );
  failed++;
}

/** Nothing happens but that hosts commit one after the other. */
function slowCommits(number: number): Plan {
  const nothing = Object.fromEntries(STEPS.map(step => [step, [0, 0, 0]])) as unknown as Plan['lagMs'];
  const pauseMs = Object.fromEntries(STEPS.map(step => [step, 0])) as Plan['pauseMs'];
  const lagMs = { ...nothing, commit: [0, UNFENCED_PAUSE_MS, 2 * UNFENCED_PAUSE_MS] };
  const none = { trouble: undefined, at: { step: 'prepare', afterMs: 0 }, completion: 'grouped' } as const;
  return { number, kind: 'calm', pauseMs, lagMs, ...none };
}

function tell({ plan, taken, faults, restored, longestWaitMs, deaths }: Played): void {
  const { trouble, number, kind } = plan;
  const what = trouble === undefined ? kind : troubleText(plan, trouble, deaths);
  const end = taken.kept ? (restored ? 'kept, restored' : 'kept, not restored') : `undone (${taken.reason})`;
  console.log(
    `${faults.length === 0 ? '✓' : '✗'} ${number} ${what}: ${end}, ${Math.round(longestWaitMs)} ms`,
  );
  if (faults.length === 0) return;
  for (const fault of faults) console.log(`  ${fault}`);
  const again = `--seed ${seed} --groups ${number} --through ${way}`;
  console.log(`  repeat: npm run test:atomicity -- ${again}; state: ${folder}`);
}

function troubleText({ at }: Plan, trouble: Trouble, deaths: number): string {
  const index = hostOf(trouble);
  const service = 'service' in trouble ? trouble.service : 'worker';
  const whom = index === undefined ? service : `host${index + 1}`;
  const notMet = index !== undefined && deaths === 0 ? ' (not met)' : '';
  if ('point' in trouble) return `${whom} dies at '${trouble.point}'${notMet}`;
  const place = `${at.afterMs < 0 ? 'before' : 'in'} ${at.step}`;
  const how = trouble.kind === 'kill-service' ? 'kill' : trouble.kind;
  return `${how} ${whom}${'forMs' in trouble ? ` for ${trouble.forMs} ms` : ''} ${place}`;
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    stopping = true;
  });
}

const missing = whyNoNetwork();
const skipped: string[] = [];
if (missing !== undefined) {
  if (process.env.CI !== undefined) failed++;
  else skipped.push(`groups over three hosts: ${missing}`);
  console.log(`✗ ${missing}`);
} else {
  try {
    await withWorld({ fenced: true, way }, playFenced);
    // By the suite's own steps, so that hosts surely commit one after the other.
    if (failed === 0) await withWorld({ fenced: false, way: 'grpc' }, playUnfenced);
  } catch (error) {
    console.log(`✗ the suite broke off: ${error instanceof Error ? error.stack : String(error)}`);
    failed++;
  }
  if (tally.groups < atLeast) {
    console.log(`✗ ${tally.groups} groups were played, and at least ${atLeast} were to be`);
    failed++;
  }
  const tables = tally.render();
  if (report === undefined) console.log(`\n${tables}`);
  else writeFileSync(report, `${tables}\n`);
}
if (failed === 0 || !keep) rmSync(folder, { recursive: true });
console.log(`\n${outcomeLines({ passed, failed, skipped })}`);
process.exit(failed > 0 ? 1 : 0);
