// What a policy would do over the next days, page by page: the catalog's simulation over what there is now.
import { setImmediate } from 'node:timers/promises';
import {
  awaitedOf,
  type Catalog,
  keepersOf,
  type PolicyDefinition,
  type RetentionRow,
  type SimulatedFiring,
  type SimulatedVolume,
  simulate,
  type Volume,
} from '@tidemark/catalog';
import { matchesSelector, parseSelector, TidemarkError } from '@tidemark/proto';
import { SIMULATED_BACKUPS_MAX } from '../limits.ts';
import { iso } from '../moments.ts';
import type { SimulatedFiringJson, SimulateQuery } from '../schemas/firing.ts';

const DAY_MS = 86_400_000;
const CURSOR = /^\d{1,9}$/;

export interface SimulatedPage {
  readonly items: SimulatedFiringJson[];
  readonly nextCursor: string | null;
}

interface Question {
  readonly policyId: string;
  readonly definition: PolicyDefinition;
  /** Of the next firing. */
  readonly number: number;
  readonly now: Date;
  readonly query: SimulateQuery;
  /** Aborted: nobody waits for the answer, and what there is by then is enough. */
  readonly signal: AbortSignal;
}

/** Rejects `policy-invalid` where it would take too long, and `volume-not-found`. */
export async function simulatePolicy(catalog: Catalog, question: Question): Promise<SimulatedPage> {
  const { policyId, definition, number, now, query, signal } = question;
  const skip = offsetOf(query.cursor);
  const { volumes, rows } = await volumesOf(catalog, question);
  if (skip * volumes.length > SIMULATED_BACKUPS_MAX) throw tooMuch(query.days, volumes.length);
  const until = new Date(now.getTime() + query.days * DAY_MS);
  const found = { detailed: query.volume !== undefined, awaited: await awaitedNow(catalog, question, rows) };
  const items: SimulatedFiringJson[] = [];
  let seen = 0;
  const breathe = () => setImmediate();
  const firings = simulate({ policyId, definition, number, from: now, until, volumes, breathe });
  for await (const firing of firings) {
    if (signal.aborted || seen >= skip + query.limit) return { items, nextCursor: String(seen) };
    if (seen >= skip) items.push(toJson(firing, found));
    seen++;
    if (seen * volumes.length > SIMULATED_BACKUPS_MAX) throw tooMuch(query.days, volumes.length);
  }
  return { items, nextCursor: null };
}

function offsetOf(cursor: string | undefined): number {
  if (cursor === undefined) return 0;
  if (CURSOR.test(cursor)) return Number(cursor);
  const text = `The cursor '${cursor}' is not one this simulation gave out. Start again without a cursor.`;
  throw new TidemarkError('invalid-request', text);
}

async function volumesOf(
  catalog: Catalog,
  { policyId, definition: { selector, repositoryId }, query: { volume: ref } }: Question,
): Promise<{ volumes: SimulatedVolume[]; rows: RetentionRow[] }> {
  const selected = await catalog.volumes.listSelected(parseSelector(selector), { states: ['ready'] });
  const chosen = ref === undefined ? selected : [await oneOf(catalog, selected, ref)];
  const rows = repositoryId === null ? [] : await catalog.retention.backups(repositoryId);
  const byVolume = Map.groupBy(rows, ({ volumeId }) => volumeId);
  const others = repositoryId === null ? [] : await othersOf(catalog, repositoryId, policyId);
  const volumes = chosen.map(({ id, name, labels }) => {
    const backups = (byVolume.get(id) ?? []).flatMap(toCandidate);
    const same = others.filter(({ selector }) => matchesSelector(selector, labels));
    return { id, name, backups, hasBase: backups.length > 0, others: same };
  });
  return { volumes, rows: chosen.flatMap(({ id }) => byVolume.get(id) ?? []) };
}

/** Nobody is away in a simulation: what waits for a copy now is told beside what it takes away. */
async function awaitedNow(
  catalog: Catalog,
  { definition: { repositoryId, keep }, now }: Question,
  rows: readonly RetentionRow[],
): Promise<ReadonlyMap<string, string[]>> {
  if (repositoryId === null || keep === null) return new Map();
  const goes = rows.filter(({ state }) => state === 'available');
  return awaitedOf(catalog, { repositoryId, rows, goes, now });
}

/** What other policies keep of the same backups stays. What replicas are for is not simulated. */
async function othersOf(catalog: Catalog, repositoryId: string, policyId: string) {
  const keepers = await keepersOf(catalog, repositoryId);
  return keepers.flatMap(({ id, name, keep, timeZone, selector, replicasAlone }) =>
    id === policyId || replicasAlone || keep === null
      ? []
      : [{ name, rules: keep, timeZone, selector: parseSelector(selector) }],
  );
}

function toCandidate({ pointInTime, ...row }: RetentionRow) {
  return row.state === 'available' && pointInTime !== null ? [{ ...row, pointInTime }] : [];
}

async function oneOf(catalog: Catalog, selected: readonly Volume[], ref: string): Promise<Volume> {
  const volume = await catalog.volumes.get(ref);
  if (selected.some(({ id }) => id === volume.id)) return volume;
  const text = `Volume '${volume.name}' is none that the policy's selector chooses, or it is not ready.`;
  throw new TidemarkError('policy-invalid', text);
}

function tooMuch(days: number, volumes: number): TidemarkError {
  return new TidemarkError(
    'policy-invalid',
    `${days} days with ${volumes} volumes are more than ${SIMULATED_BACKUPS_MAX} backups. Ask for fewer days, or ` +
      'for one volume.',
  );
}

function toJson(
  { number, dueAt, startAt, volumes }: SimulatedFiring,
  { detailed, awaited }: { detailed: boolean; awaited: ReadonlyMap<string, string[]> },
): SimulatedFiringJson {
  return {
    number,
    dueAt: iso(dueAt),
    startAt: iso(startAt),
    volumes: volumes.map(({ volumeId, volume, kind, keeps, pruned }) => ({
      ...{ volumeId, volume, kind, kept: keeps.length },
      keeps: detailed
        ? keeps.map(({ pointInTime, reasons }) => ({ pointInTime: iso(pointInTime), reasons: [...reasons] }))
        : null,
      pruned: pruned.map(({ id: backup, pointInTime }) => ({
        ...{ pointInTime: iso(pointInTime), backup },
        awaitedBy: backup === null ? [] : (awaited.get(backup) ?? []),
      })),
    })),
  };
}
