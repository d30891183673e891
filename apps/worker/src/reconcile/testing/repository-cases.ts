// Repositories with their backups and exports, as differences.
import { BACKUP, job, OTHER, REPOSITORY, RUN, run, type Sides, VOLUME } from './both-sides.ts';

type Case = [what: string, change: (sides: Sides) => unknown, expected: string[]];

export const REPOSITORY_CASES: Case[] = [
  [
    'a repository that no row tells of',
    s => {
      s.catalog.repositories = [];
      s.catalog.backups = [];
    },
    ['repository-unknown → adopt', 'backup-unknown → adopt'],
  ],
  [
    'a repository whose making failed',
    s => {
      s.catalog.repositories = [];
      s.catalog.backups = [];
      s.repository.backups = [];
      s.runs.push(run('create-repository', 'failed', REPOSITORY));
    },
    ['repository-unknown → remove'],
  ],
  [
    'a repository that is not there',
    s => (s.node.repositories = []),
    ['backup-missing → null', 'repository-missing → null'],
  ],
  [
    'a repository made without an answer',
    s => (s.rows.repository.state = 'creating'),
    ['repository-creating-left → adopt'],
  ],
  ['a backup that no row tells of', s => (s.catalog.backups = []), ['backup-unknown → adopt']],
  ['a backup without a manifest', s => (s.repository.backups = []), ['backup-missing → null']],
  ['a backup that is there again', s => (s.rows.backup.state = 'missing'), ['backup-differs → accept']],
  [
    'bytes that a prune has changed',
    s => (s.repository.backups[0]!.storedBytes = 99),
    ['backup-differs → accept'],
  ],
  [
    'a parent that a prune has changed',
    s => (s.repository.backups[0]!.parentBackupId = OTHER),
    ['backup-differs → accept'],
  ],
  ['a backup published', s => (s.rows.backup.state = 'creating'), ['backup-creating-left → adopt']],
  ['a backup hidden by intent', s => (s.rows.backup.state = 'hidden'), []],
  ['a removal that nobody goes on with', s => (s.rows.backup.state = 'removing'), ['hidden-left → hide']],
  [
    'a removal that its storage node has ended by itself',
    s => {
      s.rows.backup.state = 'removing';
      s.repository.backups = [];
    },
    ['removed-left → finish'],
  ],
  [
    'a hidden backup that is gone, and nothing stands on it',
    s => {
      s.rows.backup.state = 'hidden';
      s.repository.backups = [];
    },
    ['removed-left → finish'],
  ],
  [
    'a removal that its storage node goes on with',
    s => {
      s.rows.backup.state = 'removing';
      s.node.jobs = [job(`removal-${BACKUP}`, 'running', 'removal')];
    },
    [],
  ],
  [
    'an increment that a prune made full',
    s => {
      s.repository.backups[0]!.kind = 'incremental';
    },
    [],
  ],
  [
    'the export that a volume still reads from',
    s => {
      s.repository.work.open = [{ backupId: BACKUP, runId: RUN, durable: true }];
      s.runs.push(run('restore', 'succeeded', BACKUP));
      s.catalog.readBackupIds = [BACKUP];
    },
    [],
  ],
  [
    'a durable export of a run that ended',
    s => {
      s.repository.work.open = [{ backupId: BACKUP, runId: RUN, durable: true }];
      s.runs.push(run('restore', 'succeeded', BACKUP));
    },
    ['open-backup-left → null'],
  ],
  [
    'a partial image of a run that failed',
    s => {
      s.repository.work.partials = [{ backupId: OTHER, sinceMs: 1 }];
      s.runs.push(run('backup', 'failed', OTHER));
    },
    ['partial-left → discard'],
  ],
  [
    'a partial image of nobody',
    s => (s.repository.work.partials = [{ backupId: OTHER, sinceMs: 1 }]),
    ['partial-left → null'],
  ],
  [
    'an export of a run that ended',
    s => {
      s.repository.work.open = [{ backupId: BACKUP, runId: RUN, durable: false }];
      s.runs.push(run('restore', 'succeeded', BACKUP));
    },
    ['open-backup-left → close'],
  ],
  [
    'the durable export of a volume that pulls from it',
    s => {
      s.repository.work.open = [{ backupId: BACKUP, runId: VOLUME, durable: true }];
      s.catalog.readBackupIds = [BACKUP];
    },
    [],
  ],
  [
    'the durable export of a volume that stands alone',
    s => (s.repository.work.open = [{ backupId: BACKUP, runId: VOLUME, durable: true }]),
    ['open-backup-left → close'],
  ],
];
