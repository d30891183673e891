// Which of a storage node's checkpoints the catalog is to have again, and whether they make a chain: each has its
// bitmap, only the last one records, none is left out from the first to that one, all can be trusted.
import { isId } from '@tidemark/catalog';
import { type Checkpoint as LiveCheckpoint, type RunRequest, TidemarkError } from '@tidemark/proto';
import { z } from 'zod';

export const redefinedSchema = z.object({
  id: z.string(),
  name: z.string(),
  description: z.string(),
  pointInTimeMs: z.number(),
  originBackupId: z.string().nullable(),
  inconsistent: z.boolean(),
  /** The storage node has other texts. */
  isNewText: z.boolean(),
});

export type Redefined = z.output<typeof redefinedSchema>;

type Definitions = NonNullable<RunRequest<'redefine-checkpoints'>['definitions']>;

export interface Redefinition {
  /** Used in messages. */
  readonly volume: string;
  /** Null: all that the catalog does not know. */
  readonly definitions: Definitions | null;
  /** The storage node's, oldest first. */
  readonly live: readonly LiveCheckpoint[];
  /** Names by id, as the catalog has them. */
  readonly known: ReadonlyMap<string, string>;
  readonly allowInconsistent: boolean;
}

/** Oldest first. Throws `checkpoint-invalid`, `checkpoint-inconsistent`, `checkpoint-name-taken`. */
export function planRedefinition(redefinition: Redefinition): Redefined[] {
  requireOneRecords(redefinition);
  const { live, known } = redefinition;
  const definitions = redefinition.definitions ?? unknownOf(redefinition);
  requireChain(redefinition, definitions);
  const texts = new Map(definitions.map(definition => [definition.checkpointId, definition]));
  const redefined = live
    .filter(({ checkpointId }) => texts.has(checkpointId) && !known.has(checkpointId))
    .map(checkpoint => toRedefined(checkpoint, texts.get(checkpoint.checkpointId)!));
  requireTrust(redefinition, redefined);
  requireNames(redefinition, redefined);
  return redefined;
}

function unknownOf({ live, known }: Redefinition): Definitions {
  return live
    .filter(({ checkpointId }) => !known.has(checkpointId))
    .map(({ checkpointId }) => ({ checkpointId, name: null, description: null }));
}

function toRedefined(live: LiveCheckpoint, definition: Definitions[number]): Redefined {
  const name = definition.name ?? live.name;
  const description = definition.description ?? live.description;
  return {
    id: live.checkpointId,
    name,
    description,
    pointInTimeMs: live.createdAtMs,
    originBackupId: live.originBackupId === '' ? null : live.originBackupId,
    inconsistent: live.inconsistent,
    isNewText: name !== live.name || description !== live.description,
  };
}

function invalid({ volume }: Redefinition, what: string): TidemarkError {
  return new TidemarkError(
    'checkpoint-invalid',
    `Checkpoints of volume '${volume}' are not defined: ${what}`,
  );
}

function requireOneRecords(redefinition: Redefinition): void {
  for (const [index, { name, recording, inconsistent }] of redefinition.live.entries()) {
    const isLast = index === redefinition.live.length - 1;
    if (recording === isLast || (isLast && inconsistent)) continue;
    const fault = recording
      ? 'records, though it is not the last one'
      : 'is the last one and does not record';
    throw invalid(
      redefinition,
      `'${name}' ${fault}. Audit the volume, delete that checkpoint, then make a full backup.`,
    );
  }
}

/** Every one has a bitmap; in the storage node's order; nothing is left out up to the one that records. */
function requireChain(redefinition: Redefinition, definitions: Definitions): void {
  const { live, known } = redefinition;
  const places = new Map(live.map(({ checkpointId }, index) => [checkpointId, index]));
  let last = -1;
  for (const { checkpointId } of definitions) {
    const place = places.get(checkpointId);
    if (place === undefined) {
      throw invalid(redefinition, `the storage node has no bitmap of ${checkpointId}. Leave it out.`);
    }
    if (place <= last) {
      const text = `'${live[place]!.name}' is older than the one given before it. Give the oldest first.`;
      throw invalid(redefinition, text);
    }
    last = place;
  }
  const first = definitions[0] && places.get(definitions[0].checkpointId)!;
  if (first === undefined) return;
  const covered = new Set([...definitions.map(({ checkpointId }) => checkpointId), ...known.keys()]);
  const hole = live.slice(first).find(({ checkpointId }) => !covered.has(checkpointId));
  if (hole === undefined) return;
  const text = `'${hole.name}' (${hole.checkpointId}) comes after '${live[first]!.name}' and is left out. Give it too.`;
  throw invalid(redefinition, text);
}

function requireTrust({ volume, allowInconsistent }: Redefinition, redefined: readonly Redefined[]): void {
  const bad = redefined.find(({ inconsistent }) => inconsistent);
  if (bad === undefined || allowInconsistent) return;
  throw new TidemarkError(
    'checkpoint-inconsistent',
    `What changed on volume '${volume}' since checkpoint '${bad.name}' is not known: no increment can build on it. ` +
      'Give only later ones, or have it all the same with "allowInconsistent": true.',
  );
}

function requireNames({ volume, known }: Redefinition, redefined: readonly Redefined[]): void {
  const taken = new Set(known.values());
  for (const { id, name } of redefined) {
    if (name === '' || isId(name) || taken.has(name)) {
      const why = taken.has(name) ? 'which another one has' : 'which cannot be a name';
      throw new TidemarkError(
        'checkpoint-name-taken',
        `Checkpoint ${id} of volume '${volume}' is named '${name}', ${why}. Give it another name in the request.`,
      );
    }
    taken.add(name);
  }
}
