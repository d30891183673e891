// After a round: who follows events was told of each once and in order; every few rounds, webhooks were sent all that
// they are for.
import { setTimeout as delay } from 'node:timers/promises';
import { POLL_MS, SETTLE_MS } from '../limits.ts';
import { SENT_KINDS } from '../webhook-sink.ts';
import type { World } from '../world.ts';
import { count, type Findings } from './contents-check.ts';

/** A webhook that a dead worker served is left alone for a minute. */
const DELIVERIES_MS = 60_000 + SETTLE_MS;

export async function checkEvents(world: World, findings: Findings): Promise<void> {
  const { follower } = world;
  const newest = (await eventIds(world, 'TRUE')).at(-1) ?? 0;
  if (!(await comesAbout(() => follower.last >= newest, SETTLE_MS))) {
    findings.faults.push(`who follows events was told up to ${follower.last}, and there is ${newest}`);
  }
  const seen = follower.take();
  const from = world.eventsSeenUpTo;
  world.eventsSeenUpTo = follower.last;
  const wanted = await eventIds(world, `id > ${from} AND id <= ${follower.last}`);
  const same = wanted.length === seen.length && wanted.every((id, index) => id === seen[index]);
  if (!same) findings.faults.push(`events ${told(wanted, seen)} after ${from}`);
  count(findings, 'events followed', seen.length);
}

export async function checkDeliveries(world: World, findings: Findings): Promise<void> {
  const { sink } = world;
  const kinds = SENT_KINDS.map(kind => `'${kind}'`).join(', ');
  const wanted = await eventIds(world, `id > ${world.eventsSentFrom} AND kind IN (${kinds})`);
  const taken = () => new Set(sink.taken);
  const left = () => wanted.filter(id => !taken().has(id));
  if (!(await comesAbout(() => left().length === 0, DELIVERIES_MS))) {
    findings.faults.push(`a webhook was not sent events ${left().slice(0, 8).join(', ')}`);
  }
  findings.faults.push(...sink.faults.splice(0));
  count(findings, 'deliveries of webhooks', sink.taken.length);
  world.eventsSentFrom = wanted.at(-1) ?? world.eventsSentFrom;
  sink.taken.splice(0, sink.taken.length - 1);
}

async function eventIds(world: World, where: string): Promise<number[]> {
  const rows = await world.query<{ id: string }>(`SELECT id FROM event WHERE ${where} ORDER BY event.id`);
  return rows.map(({ id }) => Number(id));
}

async function comesAbout(isSo: () => boolean, patienceMs: number): Promise<boolean> {
  const deadline = performance.now() + patienceMs;
  while (!isSo()) {
    if (performance.now() > deadline) return false;
    await delay(POLL_MS);
  }
  return true;
}

function told(wanted: readonly number[], seen: readonly number[]): string {
  const missed = wanted.filter(id => !seen.includes(id));
  const more = seen.filter((id, index) => !wanted.includes(id) || seen.indexOf(id) !== index);
  if (missed.length + more.length === 0) return 'came in another order';
  return `${missed.slice(0, 8).join(', ')} were not told, ${more.slice(0, 8).join(', ')} too often,`;
}
