// A group: checkpoints of several volumes at one instant, all or nothing, and with them a backup of each. The instant
// is decided with the end of its step; before that everything is taken back, afterwards every storage node is told, for
// as long as it takes.
import { dropCheckpoints, droppedBy, keepDropped } from './drop-checkpoints.ts';
import { finish, releaseMoments, startBackups, waitForBackups } from './group-backups.ts';
import { finished } from './group-end.ts';
import { thaw } from './group-hooks.ts';
import { instant, taken } from './group-instant.ts';
import { firstOf, nodesOf, onAll } from './group-nodes.ts';
import { prepare } from './group-prepare.ts';
import { resolve } from './group-resolve.ts';
import type { RunDefinition, Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

const keep: Step<'create-group'> = {
  name: 'keep',
  final: true,
  // A storage node that stays away hears of it when it is compared with the catalog.
  dispensable: true,
  async run(context) {
    const { request, call, stop } = context;
    const { groupId } = request;
    const decision = { step: call('keep'), groupId, keep: true };
    // One that was told long ago may have forgotten the group.
    const told = onAll(context, nodesOf(context), ({ groups }) =>
      tolerate(['group-not-found'], groups.decideGroup(decision, { signal: stop })),
    );
    await told.catch(firstOf);
    return {};
  },
};

/** Those that did not when they should have. */
const thawLate: Step<'create-group'> = {
  name: 'thaw',
  final: true,
  dispensable: true,
  appliesTo: context => (context.findOutput('instant', taken)?.notThawed.length ?? 0) > 0,
  async run(context) {
    const reports = await thaw(context, `late-thaw-${context.run.attempt}`);
    const failed = reports.filter(({ error }) => error !== null);
    return { output: { notThawed: failed.map(({ hook, error }) => `${hook}: ${error}`) } };
  },
};

export const createGroupRun: RunDefinition<'create-group'> = {
  steps: [
    ...[resolve, prepare, instant, keep, thawLate, finish, startBackups, waitForBackups, releaseMoments],
    dropCheckpoints,
  ],
  result(context) {
    const { members: _, notThawed, ...facts } = context.output('instant', taken);
    const { groupId } = context.request;
    return { groupId, ...facts, notThawed, ...finished(context), ...droppedBy(context) };
  },
  async withdraw(catalog, context) {
    const { request, run } = context;
    const { error } = await catalog.runs.get(run.id);
    const state = error?.code === 'run-cancelled' ? 'cancelled' : 'failed';
    await catalog.groups.end(request.groupId, { state, error });
    for (const { checkpointId, backup } of request.members) {
      if (backup) await catalog.backups.deleteUnfinished(backup.backupId, run.id);
      await catalog.checkpoints.delete(checkpointId, run.id);
    }
    await keepDropped(catalog, context);
  },
};
