// A backup whose point in time is lost takes a new one, and its reason says so.
import type { TidemarkError } from '@tidemark/proto';
import { JobFailed } from '../errors.ts';
import { PREPARE_TARGET } from './backup-target.ts';
import { type RunContext, StartOver } from './run-definition.ts';

/** What stands behind the reason of a backup that began anew. */
const ANEW = '; from a new point in time, since ';

/** What to reject with; the backup's reason says from here on why. */
export async function beginAnew(context: RunContext<'backup'>, cause: TidemarkError): Promise<TidemarkError> {
  const { run, request, catalog, limits } = context;
  if (request.group !== null) return instantGone(request, cause);
  if (run.restarts >= limits.restartsMax) return new JobFailed(cause.code, cause.message, cause);
  const backup = await catalog.backups.get(request.backupId);
  const [asked] = backup.reason.split(ANEW);
  const reason = `${asked}${ANEW}the one of before was lost (${cause.message})`;
  await catalog.backups.changeReason(request.backupId, reason);
  await context.update({ reason });
  return new StartOver(PREPARE_TARGET, cause);
}

/** Of a group: another instant would not be that of the others. */
function instantGone({ checkpoint }: RunContext<'backup'>['request'], cause: TidemarkError): JobFailed {
  const text =
    `${cause.message} It was the instant of a group, which cannot be taken a second time: make the group again. ` +
    `Checkpoint '${checkpoint}' of that instant is good as it is.`;
  return new JobFailed(cause.code, text, cause);
}
