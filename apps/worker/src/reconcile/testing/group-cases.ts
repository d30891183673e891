// Groups that a storage node holds undecided, with the checkpoint that it made for one.
import type { Group } from '@tidemark/catalog';
import { Checkpoint, UndecidedGroup } from '@tidemark/proto';
import { OTHER, RUN, run, type Sides, VOLUME } from './both-sides.ts';

type Case = [what: string, change: (sides: Sides) => unknown, expected: string[]];

const facts = { id: OTHER, name: 'shop', kind: 'checkpoint', completion: 'grouped', selector: null } as const;
const GROUP: Group = {
  ...{
    ...facts,
    fenceLimitMs: 500,
    repositoryId: null,
    runId: RUN,
    state: 'creating',
    publication: 'waiting',
  },
  ...{ pointInTime: null, proof: null, error: null, createdAt: new Date(0), finishedAt: null, members: [] },
};

/** Its checkpoint has no row, and is no difference by itself. */
function inDoubt(sides: Sides, row?: Partial<Group>): void {
  const checkpointId = OTHER.replace(/^0/, 'a');
  const group = { groupId: OTHER, groupName: 'shop', runId: RUN, state: 'released', inDoubt: true };
  sides.node.groups = [
    UndecidedGroup.fromPartial({ ...group, members: [{ volumeId: VOLUME, checkpointId }] }),
  ];
  sides.volume.volume.checkpoints.push(Checkpoint.fromPartial({ checkpointId, name: 'shop' }));
  if (row) sides.groups.push({ ...GROUP, ...row });
}

export const GROUP_CASES: Case[] = [
  [
    'a group that is decided to be one instant',
    s => inDoubt(s, { pointInTime: new Date(1), state: 'ready' }),
    ['group-undecided → keep'],
  ],
  ['a group that was given up', s => inDoubt(s, { state: 'failed' }), ['group-undecided → undo']],
  [
    'a group that was given up after it had been decided',
    s => inDoubt(s, { state: 'cancelled', pointInTime: new Date(1) }),
    ['group-undecided → undo'],
  ],
  [
    'a group without a row, of a run that ended',
    s => {
      inDoubt(s);
      s.runs.push(run('create-group', 'failed', RUN));
    },
    ['group-undecided → undo'],
  ],
  ['a group of nobody', s => inDoubt(s), ['group-undecided → null']],
];
