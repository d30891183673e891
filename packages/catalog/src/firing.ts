// A firing of a policy and its members, as rows of the catalog tell them.
import type { PolicyFiringMemberModel, PolicyFiringModel } from './generated/models.ts';
import type { PolicyDefinition, PolicyKind } from './policy/definition.ts';

export type FiringCause = 'schedule' | 'missed' | 'asked';
export type FiringState = 'planned' | 'running' | 'succeeded' | 'failed' | 'skipped';
export const MEMBER_STATES = ['waiting', 'admitted', 'succeeded', 'failed', 'skipped'] as const;
export type MemberState = (typeof MEMBER_STATES)[number];

/** What was started after the backups of a firing, or why it was not. */
export interface FollowUp {
  kind: 'prune' | 'verify' | 'replicate';
  runId: string | null;
  /** Why it was not started, or failed. */
  reason: string | null;
  /** Of a replica that waits: its next run is not started before. */
  againAt?: Date | null;
}

export interface Firing {
  id: string;
  policyId: string;
  /** Null: it was skipped, and counts for nothing. */
  number: number | null;
  cause: FiringCause;
  dueAt: Date;
  startAt: Date;
  /** Due moments that it stands for. */
  standsFor: number;
  state: FiringState;
  /** The policy's, as it began. */
  definition: PolicyDefinition | null;
  reason: string | null;
  followUps: FollowUp[];
  /** When they were started; null: its members have not ended. */
  followedAt: Date | null;
  createdAt: Date;
  startedAt: Date | null;
  finishedAt: Date | null;
}

export type MemberCounts = Record<MemberState, number>;

export interface FiringMember {
  id: string;
  firingId: string;
  policyId: string;
  volumeId: string;
  volumeName: string;
  storageNodeId: string;
  kind: PolicyKind;
  state: MemberState;
  /** Why it waits, failed or was skipped. */
  reason: string | null;
  repositoryId: string | null;
  runId: string | null;
  backupId: string | null;
  estimateBytes: number | null;
  /** Runs that were started for it. */
  attempts: number;
  notBefore: Date | null;
  createdAt: Date;
  admittedAt: Date | null;
  finishedAt: Date | null;
}

export function toFiring(row: PolicyFiringModel): Firing {
  return {
    ...row,
    cause: row.cause as FiringCause,
    state: row.state as FiringState,
    definition: row.definition as unknown as PolicyDefinition | null,
    followUps: row.followUps as unknown as FollowUp[],
  };
}

export function toMember(row: PolicyFiringMemberModel): FiringMember {
  return {
    ...row,
    kind: row.kind as PolicyKind,
    state: row.state as MemberState,
    estimateBytes: row.estimateBytes === null ? null : Number(row.estimateBytes),
  };
}

export function noMembers(): MemberCounts {
  return { waiting: 0, admitted: 0, succeeded: 0, failed: 0, skipped: 0 };
}
