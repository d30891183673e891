// Replication: backups that are missing in a repository are copied from another one, oldest first, each published by
// itself: what is there stays there, whatever becomes of the rest.
import { z } from 'zod';
import { type Behind, type ReplicateContext, replicateMember, undoMember } from './replicate-member.ts';
import type { RunDefinition, Step } from './run-definition.ts';

const copied = z.object({ sentBytes: z.number() });

const copy: Step<'replicate'> = {
  name: 'copy',
  // What has come already is too dear to be thrown away.
  patient: true,
  async run(context) {
    const { request, catalog } = context;
    const sizes: number[] = [];
    for (const { backupId } of request.members) sizes.push((await catalog.backups.get(backupId)).sizeBytes);
    const totalBytes = sizes.reduce((sum, bytes) => sum + bytes, 0);
    let behind: Behind = { currentBytes: 0, sentBytes: 0, totalBytes };
    for (const [index, member] of request.members.entries()) {
      context.cancel.throwIfAborted();
      const sentBytes = behind.sentBytes + (await replicateMember(context, member, behind));
      behind = { ...behind, currentBytes: behind.currentBytes + sizes[index]!, sentBytes };
      await context.update({ progress: behind, goesOn: true });
    }
    return { output: { sentBytes: behind.sentBytes } };
  },
  async undo(context) {
    const next = await firstToCome(context);
    if (next !== undefined) await undoMember(context, next);
  },
};

export const replicateRun: RunDefinition<'replicate'> = {
  steps: [copy],
  result(context) {
    const { members, flatten } = context.request;
    const { backupId } = members.at(-1)!;
    const backups = members.map(member => member.backupId);
    return { backupId, backups, flatten, ...context.output('copy', copied) };
  },
  async withdraw(catalog, context) {
    // What stands on others first.
    for (const { backupId } of context.request.members.toReversed()) {
      await catalog.backups.deleteUnfinished(backupId, context.run.id);
    }
  },
};

/** Nothing of those behind it was begun. */
async function firstToCome({ request, catalog }: ReplicateContext) {
  for (const member of request.members) {
    if ((await catalog.backups.find(member.backupId))?.state !== 'available') return member;
  }
  return undefined;
}
