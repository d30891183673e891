// Rows whose deletion was given up, and nobody took that back.
import type { Sides } from './both-sides.ts';

type Case = [what: string, change: (sides: Sides) => unknown, expected: string[]];

export const DELETING_CASES: Case[] = [
  [
    'a checkpoint that nobody deletes',
    s => (s.rows.checkpoint.state = 'deleting'),
    ['checkpoint-deleting-left → keep'],
  ],
  [
    'a checkpoint deleted without an answer',
    s => {
      s.rows.checkpoint.state = 'deleting';
      s.volume.volume.checkpoints = [];
    },
    ['checkpoint-deleting-left → forget'],
  ],
  [
    'a repository that nobody deletes',
    s => (s.rows.repository.state = 'deleting'),
    ['repository-deleting-left → keep'],
  ],
  [
    'a repository deleted without an answer',
    s => {
      s.rows.repository.state = 'deleting';
      s.catalog.backups = [];
      s.node.repositories = [];
    },
    ['repository-deleting-left → forget'],
  ],
  [
    'a repository to be deleted that is away with its backups',
    s => {
      s.rows.repository.state = 'deleting';
      s.node.repositories = [];
    },
    ['backup-missing → null', 'repository-missing → null'],
  ],
];
