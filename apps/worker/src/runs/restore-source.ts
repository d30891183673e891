// The backup of a restore, as its repository's storage node exports it. For an instant volume the export is the
// volume's, not the run's: its names outlive restarts there, until the volume has pulled everything.
import type { StepContext } from '@tidemark/proto';
import { z } from 'zod';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import type { RunContext } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

type Context = RunContext<'restore'>;

export const opened = z.object({
  uri: z.string(),
  sizeBytes: z.number(),
  sumsUri: z.string().default(''),
});
export type Opened = z.output<typeof opened>;

/** Good to repeat. */
export async function openBackup(context: Context): Promise<Opened> {
  const { request, storageNodes, stop } = context;
  const { repositoryId, backupId } = request;
  const { repositories } = await storageNodes.ofRepository(repositoryId);
  const step = holder(context, 'open-source');
  const durable = 'instant' in request.target;
  const wanted = { step, repositoryId, backupId, verified: true, durable };
  const { uri, sizeBytes, sumsUri } = await repositories.openBackup(wanted, { signal: stop });
  return { uri, sizeBytes, sumsUri };
}

/** Good to repeat. */
export async function closeBackup(context: Context, step: string): Promise<void> {
  const { request, storageNodes, stop } = context;
  const { repositoryId, backupId } = request;
  const { repositories } = await storageNodes.ofRepository(repositoryId);
  const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
  const wanted = { step: holder(context, step), repositoryId, backupId };
  await tolerate(['backup-not-found', 'repository-not-found'], repositories.closeBackup(wanted, options));
}

/** Who has the backup open. */
function holder({ request: { target }, call }: Context, step: string): StepContext {
  return 'instant' in target ? { ...call(step), runId: target.instant.volumeId } : call(step);
}
