// Groups that a storage node holds in doubt: it was away while the others were told of the decision, or restarted.
import { type Group, isId } from '@tidemark/catalog';
import { type Find, hasEnded, type RunsAbout } from './found-difference.ts';
import type { NodeView } from './node-view.ts';

interface Sides {
  readonly node: NodeView;
  /** Of those that the storage node holds. */
  readonly groups: readonly Group[];
  readonly runsAbout: RunsAbout;
}

const GIVEN_UP: readonly string[] = ['failed', 'cancelled'];

export function compareGroups({ node, groups, runsAbout }: Sides, find: Find): void {
  const rows = new Map(groups.map(group => [group.id, group]));
  for (const { groupId, groupName, runId, state } of node.groups) {
    if (!isId(groupId)) continue;
    const row = rows.get(groupId);
    const about = `The storage node holds group '${groupName}' undecided (${state})`;
    const touches = [runId];
    const facts = { runId };
    if (row === undefined) {
      const past = runsAbout(runId);
      const whose = past
        ? `${past.kind} run ${past.id} has ${past.state}`
        : `nothing is known of its run ${runId}`;
      const text = `${about}; the catalog has no such group, and ${whose}.`;
      find('group-undecided', groupId, text, { touches, facts, safe: hasEnded(past) ? 'undo' : null });
    } else if (GIVEN_UP.includes(row.state)) {
      find('group-undecided', groupId, `${about}; it was given up.`, { touches, facts, safe: 'undo' });
    } else if (row.pointInTime !== null) {
      find('group-undecided', groupId, `${about}; it is decided to be one instant.`, {
        touches,
        facts,
        safe: 'keep',
      });
    }
  }
}

/** What belongs to a group in doubt stays or goes with it, and is no difference by itself. */
export function idsInDoubt({ groups }: NodeView): string[] {
  return groups.flatMap(({ members }) => members.map(({ checkpointId }) => checkpointId));
}
