// How the members of a group backup have ended, and what that makes of the group.
import type { Catalog, CatalogTransaction, Group, GroupMember, Run, RunError } from '@tidemark/catalog';
import { hasEnded } from '@tidemark/catalog';
import { z } from 'zod';
import type { GroupContext } from './group-nodes.ts';

const ended = z.object({
  state: z.enum(['ready', 'incomplete']),
  failed: z.array(z.object({ volume: z.string(), code: z.string(), message: z.string() })),
});

export type GroupEnd = z.output<typeof ended>;

export const WAIT_FOR_BACKUPS = 'wait-for-backups';

/** For the run's result; a group of checkpoints alone is ready with its decision. */
export function finished(context: GroupContext): GroupEnd {
  return context.findOutput(WAIT_FOR_BACKUPS, ended) ?? { state: 'ready', failed: [] };
}

/** A member, and the run that makes its backup. */
export interface MemberRun {
  readonly member: GroupMember;
  readonly run: Run | null;
}

/** A run that ended without a word about its member has failed at it. */
export async function membersOf(
  catalog: Catalog | CatalogTransaction,
  groupId: string,
): Promise<{ group: Group; members: MemberRun[] }> {
  const group = await catalog.groups.get(groupId);
  const members: MemberRun[] = [];
  for (const member of group.members) {
    const run = member.runId === null ? null : await catalog.runs.find(member.runId);
    members.push({ member, run });
  }
  return { group, members };
}

/** Still to end: its run goes on, or has yet to give up what it made. */
export const isOpen = ({ run }: MemberRun): boolean => run !== null && !hasEnded(run);

/** Null: it has succeeded, or goes on. */
export function failureOf({ member, run }: MemberRun): (RunError & { cancelled: boolean }) | null {
  if (member.state === 'ready') return null;
  const isLost = run !== null && hasEnded(run);
  if (member.state !== 'failed' && member.state !== 'cancelled' && !isLost) return null;
  const error = member.error ?? run?.error;
  const { code = 'internal-error', message = 'It left no reason.' } = error ?? {};
  return { code, message, cancelled: member.state === 'cancelled' };
}
