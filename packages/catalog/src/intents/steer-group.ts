// What an operator wants of the copies of a group: said to the run that makes it, and by that to the run of each
// member's backup. Those that are still to start begin as the group's run was told last.
import { TidemarkError } from '@tidemark/proto';
import type { CatalogTransaction } from '../catalog.ts';
import { hasEnded, type Run } from '../run.ts';

/**
 * Within a transaction. `ask` is done to the group's run first, which keeps members from starting meanwhile, and then
 * to each member's that goes on. Good to repeat. Rejects `run-not-controllable` for a group of checkpoints alone, and
 * as `ask` does.
 */
export async function steerGroup(
  catalog: CatalogTransaction,
  { id, request }: Run,
  ask: (runId: string) => Promise<Run>,
): Promise<Run> {
  const group = await catalog.groups.find(String(request.groupId));
  if (group !== null && group.kind === 'checkpoint') throw checkpointsAlone(id, group.name);
  const asked = await ask(id);
  for (const { runId } of group?.members ?? []) {
    const run = runId === null ? null : await catalog.runs.find(runId);
    if (run !== null && !hasEnded(run)) await ask(run.id);
  }
  return asked;
}

function checkpointsAlone(runId: string, group: string): TidemarkError {
  return new TidemarkError(
    'run-not-controllable',
    `Run ${runId} takes the checkpoints of group '${group}' and copies nothing: there is nothing to hold back. Wait ` +
      'for its end, or cancel it.',
  );
}
