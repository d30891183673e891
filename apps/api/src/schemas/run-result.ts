// What runs that have succeeded say of themselves, kind by kind, for the description: what stands in the catalog is
// answered as it is, also where an older worker wrote it.
import type { RunKind } from '@tidemark/catalog';
import { z } from 'zod';
import { bytesField, extentSchema, idField, momentField } from './common.ts';

const named = z.object({ id: idField, name: z.string() });

/** Of what was asked for with `dropOldest`. */
const dropped = {
  dropped: z.array(named),
  notDropped: z.array(named.extend({ reason: z.string() })).meta({
    description: 'Checkpoints that the storage node did not let go of: they stay.',
  }),
};

const newCheckpoint = z.looseObject({ checkpointId: idField.nullable(), ...dropped });

const verify = z.looseObject({
  backupId: idField,
  result: z.enum(['sound', 'damaged']),
  damagedBytes: bytesField,
  ranges: z.array(extentSchema),
  truncated: z.boolean().meta({ description: 'There are more ranges than these.' }),
  detail: z.string().nullable(),
});

const audit = z.looseObject({
  volumeId: idField,
  backupId: idField,
  repositoryId: idField,
  checkpointId: idField,
  result: z.enum(['equal', 'different']),
  cleanBytes: bytesField.meta({ description: 'What the bitmaps call unchanged.' }),
  checkedBytes: bytesField,
  differing: z.array(extentSchema),
});

const restore = z.looseObject({
  backupId: idField,
  state: z.enum(['complete', 'complete-with-holes', 'streaming']),
  damage: z
    .object({ bytes: bytesField, ranges: z.array(extentSchema), truncated: z.boolean() })
    .nullable()
    .optional()
    .meta({ description: 'What of the backup could not be read; there are holes in its place.' }),
  volumeId: idField.optional(),
  exportUri: z.string().optional(),
  filePath: z.string().optional().meta({ description: 'Of a restore to a file.' }),
});

const exported = z.looseObject({
  exportId: idField,
  uri: z.string().optional().meta({ description: 'Where the frozen moment is read, while it is open.' }),
  contexts: z
    .array(z.string())
    .optional()
    .meta({ description: 'NBD metadata contexts, oldest checkpoint first, while it is open.' }),
  sizeBytes: bytesField,
  pointInTimeMs: z.number(),
});

const prune = z.looseObject({
  removed: z.array(z.object({ backup: idField, freedBytes: z.int() })),
  waiting: z.array(z.object({ backup: idField, why: z.string() })).meta({
    description: 'Hidden, until a later prune can take them out of their chains.',
  }),
  checkpoints: z.array(named),
  freedBytes: z.int().meta({ description: 'Less than nothing where more was copied than freed.' }),
});

const counted = z.object({ count: z.int(), ids: z.array(idField) });

const scan = z.looseObject({
  repositoryId: idField,
  found: z.int(),
  added: counted,
  updated: counted,
  missing: counted.meta({ description: 'In the catalog, and not in the folder.' }),
  problems: z.array(z.object({ what: z.string(), backupId: z.string().nullable(), message: z.string() })),
});

const drain = z.looseObject({
  state: z.enum(['complete', 'incomplete']),
  moved: z.array(z.object({ name: z.string(), to: z.string() })),
  stays: z.array(z.object({ name: z.string(), reason: z.string() })),
  repositories: z.array(z.string()).meta({ description: 'Names of those that stay.' }),
});

const recover = z.looseObject({
  state: z.enum(['complete', 'incomplete']),
  volumes: z.array(
    z.object({
      volumeId: idField,
      name: z.string(),
      state: z.enum(['restored', 'lost']),
      storageNode: z.string().nullable(),
      backupId: idField.nullable(),
      repository: z.string().nullable(),
      pointInTime: momentField.nullable(),
      ageMs: z.number().nullable().meta({ description: 'When the recovery was asked for.' }),
      lost: z.string().meta({ description: 'What is lost, in words.' }),
    }),
  ),
  repositories: z.array(z.string()).meta({ description: 'Names of those that are lost.' }),
});

const redefine = z.looseObject({
  validateOnly: z.boolean(),
  checkpoints: z.array(named.extend({ pointInTime: momentField, inconsistent: z.boolean() })),
  missing: z.array(named).meta({ description: 'Checkpoints that the storage node does not have.' }),
});

const reconcile = z.looseObject({ storageNodeId: idField, found: z.int(), repaired: z.int(), open: z.int() });

const ofVolume = named.extend({ volume: z.string() });

const group = z.looseObject({
  groupId: idField,
  pointInTimeMs: z.number(),
  longestWaitMs: z.number(),
  state: z.enum(['ready', 'incomplete']),
  failed: z.array(z.object({ volume: z.string(), code: z.string(), message: z.string() })),
  notThawed: z.array(z.string()).meta({ description: 'Hooks that did not thaw, with what they said.' }),
  dropped: z.array(ofVolume).optional(),
  notDropped: z
    .array(ofVolume.extend({ reason: z.string() }))
    .optional()
    .meta({ description: 'Checkpoints that their storage nodes did not let go of: they stay.' }),
});

const DESCRIBED: readonly [name: string, kinds: readonly RunKind[], schema: z.ZodType][] = [
  ['NewCheckpointResult', ['create-checkpoint', 'backup'], newCheckpoint],
  ['VerifyResult', ['verify'], verify],
  ['AuditResult', ['audit'], audit],
  ['RestoreResult', ['restore'], restore],
  ['ExportResult', ['export'], exported],
  ['PruneResult', ['prune'], prune],
  ['ScanResult', ['scan-repository'], scan],
  ['DrainResult', ['drain-storage-node'], drain],
  ['RecoverResult', ['recover-storage-node'], recover],
  ['RedefineResult', ['redefine-checkpoints'], redefine],
  ['ReconcileResult', ['reconcile'], reconcile],
  ['GroupResult', ['create-group'], group],
];

/** For the description; kinds that are not among them say the ids of what they were about. */
export const RUN_RESULTS = [
  ...DESCRIBED.map(([id, kinds, schema]) => {
    const names = kinds.map(kind => `\`${kind}\``).join(' and ');
    schema.meta({ id, description: `Result of runs of kind ${names}.` });
    return { $ref: `#/components/schemas/${id}` };
  }),
  { type: 'object', additionalProperties: true },
];

/** Undefined for a kind whose results are not described. */
export const resultSchemaOf = (kind: RunKind): z.ZodType | undefined =>
  DESCRIBED.find(([, kinds]) => kinds.includes(kind))?.[2];
