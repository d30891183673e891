// A backup and its checkpoint: the same instant, made by one transaction of the storage node that owns the
// volume, copied into a repository on another.
import { copy } from './backup-copy.ts';
import { endBackupJobs, releaseMoment } from './backup-moment.ts';
import { awaitGroup, noteFailed } from './backup-of-group.ts';
import { check, publish, published } from './backup-publish.ts';
import { start, started } from './backup-start.ts';
import { prepareTarget } from './backup-target.ts';
import { dropCheckpoints, droppedBy, keepDropped } from './drop-checkpoints.ts';
import type { RunDefinition, Step } from './run-definition.ts';

const finish: Step<'backup'> = {
  name: 'finish',
  final: true,
  // A storage node forgets ended jobs by itself; the backup is published.
  dispensable: true,
  async run(context) {
    await endBackupJobs(context, 'finish');
    await releaseMoment(context, 'finish');
    return {};
  },
};

export const backupRun: RunDefinition<'backup'> = {
  steps: [prepareTarget, start, copy, check, awaitGroup, publish, dropCheckpoints, finish],
  result(context) {
    const { backupId, checkpointId } = context.request;
    // Who knows a target may write to it.
    const { targetUri: _, ...start } = context.output('start', started);
    const { restarts } = context.run;
    const ids = { backupId, checkpointId };
    return { ...ids, ...start, ...context.output('publish', published), restarts, ...droppedBy(context) };
  },
  async withdraw(catalog, context) {
    const { request, run } = context;
    await keepDropped(catalog, context);
    await catalog.backups.deleteUnfinished(request.backupId, run.id);
    if (request.group) await noteFailed(catalog, context);
    else await catalog.checkpoints.delete(request.checkpointId, run.id);
  },
};
