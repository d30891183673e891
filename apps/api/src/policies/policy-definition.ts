// What a request says of a policy, with its references resolved, and refused where it cannot work.
import {
  type CatalogTransaction,
  GROUP_MEMBERS_MAX,
  keptHooks,
  type PolicyDefinition,
  type PolicyGroups,
  Schedule,
} from '@tidemark/catalog';
import { parseSelector, selectorText, TidemarkError } from '@tidemark/proto';
import { FENCE_LIMIT_DEFAULT_MS } from '../limits.ts';
import { changedKeep } from '../retention/changed-keep.ts';
import type { CreatePolicy, UpdatePolicy } from '../schemas/policy.ts';

/**
 * Rejects `policy-invalid`, `invalid-request` for a selector or the address of a hook, `repository-not-found`, and
 * `storage-node-not-found` for one of a hook.
 */
export async function definitionOf(
  catalog: CatalogTransaction,
  body: Omit<CreatePolicy, 'name' | 'enabled'>,
  now: Date,
): Promise<PolicyDefinition> {
  const { repository, replicas, keep = null, grouped: groups, ...rest } = body;
  const repositoryId = repository === undefined ? null : (await catalog.repositories.get(repository)).id;
  const replicaIds = await idsOf(catalog, replicas);
  const grouped = groups === undefined ? null : await changedGroups(catalog, null, groups);
  const definition = checked({ ...rest, repositoryId, replicaIds, keep, grouped }, now);
  await requireTogether(catalog, definition);
  return definition;
}

/** As `definitionOf`; what is not given stays. */
export async function changedDefinition(
  catalog: CatalogTransaction,
  { before, change, now }: { before: PolicyDefinition; change: UpdatePolicy; now: Date },
): Promise<PolicyDefinition> {
  const { name: _, repository, replicas, schedule = {}, retry = {}, keep, grouped, ...rest } = change;
  const definition: PolicyDefinition = {
    ...{ ...before, ...given(rest) },
    schedule: { ...before.schedule, ...given(schedule) },
    retry: { ...before.retry, ...given(retry) },
    keep: keep === undefined ? before.keep : changedKeep(before.keep, keep),
  };
  if (repository !== undefined) {
    definition.repositoryId = repository === null ? null : (await catalog.repositories.get(repository)).id;
  }
  if (replicas !== undefined) definition.replicaIds = await idsOf(catalog, replicas);
  if (grouped !== undefined) {
    definition.grouped = grouped === null ? null : await changedGroups(catalog, before.grouped, grouped);
  }
  const after = checked(definition, now);
  await requireTogether(catalog, after);
  return after;
}

/** As those of a policy that is made with no more said. */
const NEW_GROUPS: PolicyGroups = {
  fenceLimitMs: FENCE_LIMIT_DEFAULT_MS,
  completion: 'individual',
  hooks: [],
};

/** Hooks that were there already are left alone, whatever became of their storage nodes. */
async function changedGroups(
  catalog: CatalogTransaction,
  before: PolicyGroups | null,
  { hooks, ...rest }: NonNullable<UpdatePolicy['grouped']>,
): Promise<PolicyGroups> {
  const groups = { ...(before ?? NEW_GROUPS), ...given(rest) };
  return hooks === undefined ? groups : { ...groups, hooks: await keptHooks(catalog, hooks) };
}

function given(part: object): object {
  return Object.fromEntries(Object.entries(part).filter(([, value]) => value !== undefined));
}

/** Labels may change: whoever enables or simulates a policy asks again. Rejects `policy-invalid`. */
export async function requireTogether(
  catalog: Pick<CatalogTransaction, 'volumes'>,
  { grouped, selector }: PolicyDefinition,
): Promise<void> {
  if (grouped === null) return;
  const chosen = await catalog.volumes.listSelected(parseSelector(selector), { states: ['ready'] });
  if (chosen.length <= GROUP_MEMBERS_MAX) return;
  throw invalid(
    `'grouped' takes at most ${GROUP_MEMBERS_MAX} volumes at one instant, and its selector '${selector}' chooses ` +
      `${chosen.length}. Narrow the selector, make several policies, or leave 'grouped' out.`,
  );
}

async function idsOf(catalog: CatalogTransaction, refs: readonly string[]): Promise<string[]> {
  const ids = new Set<string>();
  for (const ref of refs) ids.add((await catalog.repositories.get(ref)).id);
  return [...ids];
}

function checked(definition: PolicyDefinition, now: Date): PolicyDefinition {
  const { kind, repositoryId, replicaIds, keep, verifyPercent } = definition;
  requireDue(definition, now);
  if (kind === 'checkpoint') {
    const extra = repositoryId !== null || replicaIds.length > 0 || keep !== null || verifyPercent > 0;
    if (extra) {
      throw invalid(
        "'kind' checkpoint makes no backups: leave out repository, replicas, keep and verifyPercent.",
      );
    }
  } else if (repositoryId === null) {
    throw invalid("'repository' is missing: say where its backups go, or choose kind checkpoint.");
  }
  if (repositoryId !== null && replicaIds.includes(repositoryId)) {
    throw invalid("'replicas' holds the repository that its backups are made in. Choose others.");
  }
  return { ...definition, selector: selectorText(parseSelector(definition.selector)) };
}

function requireDue({ schedule }: PolicyDefinition, now: Date): void {
  let next: Date | null;
  try {
    next = new Schedule(schedule).next(now);
  } catch (error) {
    if (error instanceof RangeError) throw invalid(`'schedule.cron' ${error.message}.`);
    throw error;
  }
  if (next === null)
    throw invalid(`'schedule.cron' is "${schedule.cron}", which is never due. Choose other days.`);
}

const invalid = (text: string) => new TidemarkError('policy-invalid', text);
