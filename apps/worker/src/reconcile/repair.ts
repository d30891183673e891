// Repairs: what makes each difference go away. All are good to repeat, and none is done where a run goes on.
import { TidemarkError } from '@tidemark/proto';
import type { DifferenceKind, FoundDifference } from './found-difference.ts';
import { LEFTOVER_REPAIRS } from './leftover-repairs.ts';
import { NOUN_REPAIRS } from './noun-repairs.ts';
import type { RepairWork } from './repair-work.ts';

type Repairs = { readonly [K in DifferenceKind]?: { readonly [action: string]: Repair } };
type Repair = (work: RepairWork) => Promise<unknown>;

const REPAIRS: Repairs = { ...NOUN_REPAIRS, ...LEFTOVER_REPAIRS };

/** Rejects `invalid-request` for what cannot be done about it now, and as the catalog or the storage node does. */
export async function repair(work: RepairWork, action: string): Promise<void> {
  const { found } = work;
  const does = found.actions.includes(action) ? REPAIRS[found.kind]?.[action] : undefined;
  if (does === undefined) throw noSuchRepair(found, action);
  await does(work);
}

function noSuchRepair({ kind, actions }: Pick<FoundDifference, 'kind' | 'actions'>, action: string) {
  const choice =
    actions.length > 0 ? `Choose one of: ${actions.join(', ')}.` : 'There is none: see its message.';
  return new TidemarkError('invalid-request', `'${action}' does not repair a difference ${kind}. ${choice}`);
}
