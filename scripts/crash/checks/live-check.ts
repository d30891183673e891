// After a round: who follows events was told of each once and in order; a webhook was sent all that is for it and not
// quite new.
import { setTimeout as delay } from 'node:timers/promises';
import { POLL_MS, SETTLE_MS } from '../limits.ts';
import { SENT_KINDS } from '../webhook-sink.ts';
import type { World } from '../world.ts';
import { count, type Findings } from './contents-check.ts';

/** A webhook that a dead worker served is left alone for a minute, and no round waits for that. */
const DELIVERED_WITHIN_MS = 60_000 + SETTLE_MS;

export async function checkEvents(world: World, findings: Findings): Promise<void> {
  const { follower } = world;
  const newest = (await eventIds(world, 'TRUE')).at(-1) ?? 0;
  if (!(await comesTo(() => follower.last >= newest))) {
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
  const isOld = `created_at < clock_timestamp() - interval '${DELIVERED_WITHIN_MS} milliseconds'`;
  const wanted = await eventIds(world, `id > ${world.eventsSentFrom} AND kind IN (${kinds}) AND ${isOld}`);
  const left = wanted.filter(id => !sink.hasTaken(id));
  if (left.length > 0) findings.faults.push(`a webhook was not sent events ${left.slice(0, 8).join(', ')}`);
  findings.faults.push(...sink.faults.splice(0));
  count(findings, 'deliveries of webhooks compared', wanted.length);
  world.eventsSentFrom = wanted.at(-1) ?? world.eventsSentFrom;
}

async function eventIds(world: World, where: string): Promise<number[]> {
  const rows = await world.query<{ id: string }>(`SELECT id FROM event WHERE ${where} ORDER BY event.id`);
  return rows.map(({ id }) => Number(id));
}

async function comesTo(isSo: () => boolean): Promise<boolean> {
  const deadline = performance.now() + SETTLE_MS;
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
