// Goal: each way in which catalog, storage node and repository can differ is found under its name, with the repair
// that cannot lose anything or with none; what a run works on is no difference.
// Method: two sides that agree; each case changes one thing.
import { Checkpoint, Moment, StoredBackup } from '@tidemark/proto';
import { expect, test } from 'vitest';
import { compare } from './compare.ts';
import { DIFFERENCE_KINDS } from './found-difference.ts';
import {
  agreeing,
  BACKUP,
  CHECKPOINT,
  COMMIT,
  id,
  job,
  NODE,
  NOW_MS,
  OTHER,
  REPOSITORY,
  RUN,
  run,
  type Sides,
  SNAPSHOT,
  STUCK_MS,
  VOLUME,
} from './testing/both-sides.ts';
import { DELETING_CASES } from './testing/deleting-cases.ts';
import { GROUP_CASES } from './testing/group-cases.ts';
import { MOVED_CASES } from './testing/moved-cases.ts';
import { REPOSITORY_CASES } from './testing/repository-cases.ts';

const look = ({ catalog, node, groups, runs }: Sides) =>
  compare({ storageNodeId: NODE, catalog, node, groups, runs, nowMs: NOW_MS, stuckMs: STUCK_MS });

/** What was changed, and `name → repair that is made by itself`, as it is found then. */
const CASES: [what: string, change: (sides: Sides) => unknown, expected: string[]][] = [
  ['nothing', () => {}, []],
  ['a volume that no row tells of', s => (s.catalog.volumes = []), ['volume-unknown → adopt']],
  [
    'a volume whose name is taken',
    s => {
      s.catalog.volumes = [];
      s.catalog.elsewhere = [{ id: OTHER, name: 'disk', noun: 'volume' }];
    },
    ['volume-unknown → null'],
  ],
  ...MOVED_CASES,
  [
    'a volume that a run has deleted',
    s => {
      s.catalog.volumes = [];
      s.runs.push(run('delete-volume', 'succeeded', VOLUME));
    },
    ['volume-unknown → null'],
  ],
  [
    'a volume that was never completely restored',
    s => {
      s.catalog.volumes = [];
      s.volume.volume.exportUri = '';
      s.runs.push(run('restore', 'failed', VOLUME));
    },
    ['restoring-left → remove'],
  ],
  [
    'a volume that was restored, has no export now, and whose row is gone',
    s => {
      s.catalog.volumes = [];
      s.volume.volume.exportUri = '';
      s.runs.push(run('restore', 'succeeded', VOLUME));
    },
    ['volume-unknown → null'],
  ],
  [
    'a checkpoint that a failed backup was to build on',
    s => {
      s.catalog.checkpoints = [];
      s.runs.push(run('backup', 'failed', OTHER, CHECKPOINT));
    },
    ['checkpoint-unknown → adopt'],
  ],
  ['a volume that is not there', s => (s.node.volumes = []), ['volume-missing → null']],
  ['a size', s => (s.volume.volume.sizeBytes = 8192), ['volume-differs → accept']],
  ['an export', s => (s.volume.volume.exportUri = 'nbd://moved/disk'), ['volume-differs → accept']],
  [
    'a volume that stands alone by now',
    s => (s.rows.volume.sourceBackupId = BACKUP),
    ['volume-differs → accept'],
  ],
  ['a name', s => (s.volume.volume.name = 'other'), ['volume-differs → null']],
  [
    'a volume made without an answer',
    s => (s.rows.volume.state = 'creating'),
    ['volume-creating-left → adopt'],
  ],
  [
    'a volume never made',
    s => {
      s.rows.volume.state = 'creating';
      s.node.volumes = [];
    },
    ['volume-creating-left → forget'],
  ],
  ['a volume that nobody deletes', s => (s.rows.volume.state = 'deleting'), ['volume-deleting-left → null']],
  [
    'a volume deleted without an answer',
    s => {
      s.rows.volume.state = 'deleting';
      s.node.volumes = [];
    },
    ['volume-deleting-left → forget'],
  ],
  ['a checkpoint that no row tells of', s => (s.catalog.checkpoints = []), ['checkpoint-unknown → adopt']],
  [
    'a checkpoint of a backup that failed',
    s => {
      s.catalog.checkpoints = [];
      s.runs.push(run('backup', 'failed', CHECKPOINT));
    },
    ['checkpoint-unknown → merge'],
  ],
  [
    'a checkpoint that came back',
    s => {
      s.catalog.checkpoints = [];
      s.runs.push(run('delete-checkpoint', 'succeeded', CHECKPOINT));
    },
    ['checkpoint-unknown → merge'],
  ],
  [
    'a checkpoint whose name is taken',
    s => (s.rows.checkpoint.id = OTHER),
    ['checkpoint-unknown → null', 'checkpoint-missing → null'],
  ],
  ['a checkpoint without a bitmap', s => (s.volume.volume.checkpoints = []), ['checkpoint-missing → null']],
  [
    'a bitmap that missed writes',
    s => (s.checkpoint.inconsistent = true),
    ['checkpoint-inconsistent → null'],
  ],
  ['a checkpoint renamed', s => (s.rows.checkpoint.name = 'tuesday'), ['checkpoint-differs → rename']],
  [
    'a checkpoint made without an answer',
    s => (s.rows.checkpoint.state = 'creating'),
    ['checkpoint-creating-left → adopt'],
  ],
  [
    'a checkpoint never made',
    s => {
      s.rows.checkpoint.state = 'creating';
      s.volume.volume.checkpoints = [];
    },
    ['checkpoint-creating-left → forget'],
  ],
  ['a snapshot that no row tells of', s => (s.catalog.snapshots = []), ['snapshot-unknown → adopt']],
  ['a snapshot that is not there', s => (s.volume.snapshots = []), ['snapshot-missing → null']],
  [
    'a snapshot without an answer',
    s => (s.rows.snapshot.state = 'creating'),
    ['snapshot-creating-left → adopt'],
  ],
  [
    'a commit that its storage node forgot',
    s => s.catalog.commits.push({ id: COMMIT, volumeId: VOLUME, state: 'ready', createdAt: new Date(0) }),
    ['commit-differs → end'],
  ],
  [
    'a commit that waits',
    s => {
      s.catalog.commits.push({ id: COMMIT, volumeId: VOLUME, state: 'ready', createdAt: new Date(0) });
      s.node.jobs = [job(`commit-${COMMIT}`, 'ready', 'commit')];
    },
    [],
  ],
  [
    'a commit that no row tells of',
    s => (s.node.jobs = [job(`commit-${COMMIT}`, 'ready', 'commit')]),
    ['job-left → null'],
  ],
  [
    'a commit of a run that ended',
    s => {
      s.node.jobs = [job(`commit-${COMMIT}`, 'concluded', 'commit')];
      s.runs.push(run('commit', 'failed', COMMIT));
    },
    ['job-left → end'],
  ],
  ...REPOSITORY_CASES,
  [
    'a moment of a run that ended',
    s => {
      s.node.moments = [Moment.fromPartial({ momentId: OTHER, volumeId: VOLUME, kind: 'backup' })];
      s.runs.push(run('backup', 'cancelled', OTHER));
    },
    ['moment-left → release'],
  ],
  [
    'a job of a run that ended',
    s => {
      s.node.jobs = [job(`backup-${OTHER}`)];
      s.runs.push(run('backup', 'failed', OTHER));
    },
    ['job-left → end'],
  ],
  ['a job of nobody', s => (s.node.jobs = [job(`backup-${OTHER}`)]), ['job-left → null']],
  ['a job of nobody that is over', s => (s.node.jobs = [job(`backup-${OTHER}`, 'concluded')]), []],
  [
    'a lease of a run that ended',
    s => s.catalog.leases.push({ id: OTHER, backupId: BACKUP, holder: 'run', holderId: RUN, held: false }),
    ['lease-left → drop'],
  ],
  ...DELETING_CASES,
  ...GROUP_CASES,
  [
    'a run that nobody works on',
    s => s.catalog.liveRuns.push({ ...run('backup', 'running'), silentSince: new Date(NOW_MS - STUCK_MS) }),
    ['run-stuck → null'],
  ],
  [
    'an id that is none of ours',
    s => s.volume.volume.checkpoints.push(Checkpoint.fromPartial({ checkpointId: 'by-hand', name: 'x' })),
    ['foreign-ids → null'],
  ],
];

test.each(CASES)('%s', (_what, change, expected) => {
  const sides = agreeing();
  change(sides);
  const found = look(sides);
  expect(found.map(({ kind, safe }) => `${kind} → ${safe}`)).toEqual(expected);
  for (const one of found) {
    expect(one.message).toMatch(/\.$/);
    if (one.safe !== null) expect(one.actions).toContain(one.safe);
    for (const action of one.actions) expect(DIFFERENCE_KINDS[one.kind].actions).toContain(action);
  }
});

test('every name is found in some case', () => {
  const names = CASES.flatMap(([, , expected]) => expected.map(text => text.split(' ')[0]));
  expect([...new Set(names)].sort()).toEqual(Object.keys(DIFFERENCE_KINDS).sort());
});

test('what a run works on is no difference', () => {
  for (const [, change, expected] of CASES) {
    if (expected.length === 0 || expected.some(text => /run-stuck|foreign-ids/.test(text))) continue;
    const sides = agreeing();
    change(sides);
    const all = [VOLUME, CHECKPOINT, REPOSITORY, BACKUP, OTHER, SNAPSHOT, COMMIT];
    sides.catalog.liveRuns.push(run('delete-volume', 'running', ...all));
    expect(look(sides)).toEqual([]);
  }
});

test('a backup that is being made leaves the rest of its repository open to comparison', () => {
  const sides = agreeing();
  sides.catalog.backups = [];
  const making = { ...run('backup', 'running', OTHER, REPOSITORY), repositoryId: REPOSITORY };
  sides.catalog.liveRuns.push(making);
  expect(look(sides).map(({ kind }) => kind)).toEqual(['backup-unknown']);
});

test('a verification leaves the volume and checkpoint of its backup open to comparison', () => {
  const sides = agreeing();
  sides.catalog.volumes = [];
  sides.repository.backups = [];
  const about = { volumeId: VOLUME, repositoryId: REPOSITORY };
  const verifying = { ...run('verify', 'running', CHECKPOINT, VOLUME, BACKUP, REPOSITORY), ...about };
  sides.catalog.liveRuns.push(verifying);
  expect(look(sides).map(({ kind }) => kind)).toEqual(['volume-unknown']);
});

test('backups are adopted after what they stand on', () => {
  const sides = agreeing();
  sides.catalog.backups = [];
  const child = (backupId: string, parentBackupId: string) =>
    StoredBackup.fromPartial({ backupId, parentBackupId, checkpointId: backupId, kind: 'incremental' });
  sides.repository.backups = [child(id(12), id(11)), child(id(11), BACKUP), ...sides.repository.backups];
  expect(look(sides).map(({ subjectId }) => subjectId)).toEqual([BACKUP, id(11), id(12)]);
});
