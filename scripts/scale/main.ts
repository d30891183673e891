// `npm run scale`: how large a fleet one small installation bears. Real services, PostgreSQL and Redis; storage nodes
// of real gRPC that hold no bytes. Prints the figures of docs/SCALE.md.
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { optionsOf, positiveNumber, wholeNumber } from '../process/options.ts';
import { loadAt } from './api-load.ts';
import { type Quantiles, quantiles, scheduleLag, throughput, unended } from './figures.ts';
import { ProcessorTime } from './processor-time.ts';
import { SimulatedFleet } from './simulated-fleet.ts';

const OPTIONS = {
  options: {
    nodes: { type: 'string', default: '300' },
    volumes: { type: 'string', default: '5000' },
    workers: { type: 'string', default: '2' },
    /** Of hourly policies, each on its own minute. */
    minutes: { type: 'string', default: '5' },
    /** Requests to the api each second meanwhile. */
    rate: { type: 'string', default: '100' },
  },
} as const;
const { size, minutes, rate } = optionsOf(() => {
  const { values } = parseArgs(OPTIONS);
  return {
    size: {
      nodes: wholeNumber('nodes', values.nodes),
      volumes: wholeNumber('volumes', values.volumes),
      workers: wholeNumber('workers', values.workers),
    },
    minutes: positiveNumber('minutes', values.minutes),
    rate: positiveNumber('rate', values.rate),
  };
});
/** One policy for each minute of the hour. */
const SLOTS = 60;
const PATHS = [
  '/v1/volumes?limit=50',
  '/v1/volumes/volume-00001',
  '/v1/runs?limit=20',
  '/v1/backups?limit=20',
  '/v1/volumes?selector=slot%3D7',
  '/v1/storage-nodes?limit=50',
];

const line = (text: string) => console.log(text);
const whole = (value: number) => `${value.toFixed(0)} ms`;
const ms = ({ p50, p99, most, count }: Quantiles) =>
  `p50 ${whole(p50)}, p99 ${whole(p99)}, most ${whole(most)} (${count})`;

function told(clock: ProcessorTime): string {
  const shares = Object.entries(clock.shares()).filter(([, share]) => share >= 0.01);
  return shares.map(([name, share]) => `${name} ${share.toFixed(2)}`).join(', ');
}

async function settled(fleet: SimulatedFleet): Promise<void> {
  while ((await unended(fleet.database)) > 0) await delay(500);
}

async function setUp(fleet: SimulatedFleet): Promise<string[]> {
  const clock = new ProcessorTime(fleet.stack, fleet.pids);
  const since = new Date();
  await fleet.createVolumes(size, SLOTS);
  const { runs, perSecond } = await throughput(fleet.database, 'create-volume', since);
  line(`volumes made      ${runs} runs, ${perSecond.toFixed(1)} a second; processors: ${told(clock)}`);
  return fleet.createPolicies(SLOTS, size);
}

/** The hourly policies as they come, beside requests to the api. */
async function hourly(fleet: SimulatedFleet): Promise<void> {
  const clock = new ProcessorTime(fleet.stack, fleet.pids);
  const since = new Date();
  const over = AbortSignal.timeout(Math.ceil(minutes * 60_000));
  const load = await loadAt(rate, fleet.stack.url, PATHS, over);
  line(`api at ${rate}/s      ${ms(quantiles(load.latenciesMs))}, ${load.failures.length} failed`);
  for (const failure of load.failures.slice(0, 3)) line(`                  ${failure}`);
  line(`processors        ${told(clock)}`);
  await settled(fleet);
  line(`schedule lag      ${ms(await scheduleLag(fleet.database, since))}`);
  const { runs, failed, tookMs } = await throughput(fleet.database, 'backup', since);
  line(`backups           ${runs}, ${failed} failed; each ${ms(tookMs)}`);
}

/** Shares of the fleet all at once, each twice the one before: where the queue stops keeping up. */
async function bursts(fleet: SimulatedFleet, policies: readonly string[]): Promise<void> {
  for (let slots = Math.ceil(SLOTS / 8); slots <= SLOTS; slots *= 2) {
    const since = new Date();
    const clock = new ProcessorTime(fleet.stack, fleet.pids);
    const fired = policies.slice(0, slots);
    await Promise.all(fired.map(id => fleet.call('POST', `/v1/policies/${id}/fire`, {})));
    await settled(fleet);
    const { runs, failed, perSecond, seconds, tookMs } = await throughput(fleet.database, 'backup', since);
    line(
      `burst of ${runs} (${failed} failed): ${seconds.toFixed(1)} s, ${perSecond.toFixed(1)} a second, ` +
        `each ${ms(tookMs)}; processors: ${told(clock)}`,
    );
  }
}

const fleet = await SimulatedFleet.start(size);
try {
  line(`${size.nodes} storage nodes, ${size.volumes} volumes, ${size.workers} workers, one api`);
  const policies = await setUp(fleet);
  await hourly(fleet);
  await bursts(fleet, policies);
} finally {
  await fleet.close();
}
