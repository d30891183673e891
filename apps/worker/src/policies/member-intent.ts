// What a member of a firing becomes: a backup, or a checkpoint alone, named for the policy and the due moment.
import {
  type Admitted,
  type Candidate,
  type CatalogTransaction,
  intendBackup,
  intendCheckpoint,
} from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';

/** Names of one policy, volume and due moment that are tried: others come from earlier attempts. */
export const NAMES_MAX = 100;

type Intended = Omit<Admitted, 'estimateBytes'>;

/** Within a transaction. Rejects as the intents do. */
export async function intendMember(
  catalog: CatalogTransaction,
  runId: string,
  { candidate, speedBytesPerSecond }: { candidate: Candidate; speedBytesPerSecond: number },
): Promise<Intended> {
  const { policy, definition, volumeId, volumeName, repositoryId, kind, dueAt } = candidate;
  const name = await freeName(catalog, volumeId, { policy: policy.name, dueAt });
  const common = {
    volume: volumeId,
    description: `by policy '${policy.name}', due at ${dueAt.toISOString()}`,
    dropOldest: definition.dropOldest,
    priority: policy.definition.priority,
    requestedBy: `policy ${policy.name}`,
  };
  if (kind === 'checkpoint' || repositoryId === null) {
    await intendCheckpoint(catalog, runId, { ...common, name });
    return { kind: 'checkpoint', runId, backupId: null };
  }
  const wanted = { ...common, repository: repositoryId, checkpoint: name, direct: false };
  const speed = speedBytesPerSecond === 0 ? {} : { speedBytesPerSecond };
  const because = `policy '${policy.name}'`;
  const intend = (wantedKind: typeof kind, why: string) =>
    intendBackup(catalog, runId, { ...wanted, ...speed, kind: wantedKind, because: why });
  // Nothing has been written when there is nothing to build on.
  const { backup } = await intend(kind, because).catch(error => {
    if (kind === 'full' || !(error instanceof TidemarkError) || error.code !== 'checkpoint-not-found')
      throw error;
    return intend(
      'full',
      `${because} asks for an ${kind} one, and volume '${volumeName}' has nothing to build on`,
    );
  });
  return { kind: backup.kind, runId, backupId: backup.id };
}

async function freeName(
  catalog: CatalogTransaction,
  volumeId: string,
  { policy, dueAt }: { policy: string; dueAt: Date },
): Promise<string> {
  for (let count = 1; count < NAMES_MAX; count++) {
    const name = checkpointName(policy, dueAt, count);
    if (!(await catalog.checkpoints.isNameTaken([volumeId], name))) return name;
  }
  const text = `There are ${NAMES_MAX} checkpoints named '${checkpointName(policy, dueAt, 1)}' already.`;
  throw new TidemarkError('checkpoint-name-taken', text);
}

/** Such as nightly-20261121T020000Z: names hold no colons. `count`: from 1, of those alike. */
export function checkpointName(policy: string, dueAt: Date, count: number): string {
  const moment = dueAt.toISOString().slice(0, 19).replaceAll(/[-:]/g, '');
  return `${policy}-${moment}Z${count === 1 ? '' : `-${count}`}`;
}
