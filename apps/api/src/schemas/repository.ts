// Repositories: places on storage nodes that hold backups.
import { z } from 'zod';
import {
  bytesField,
  chosenPageQuery,
  concurrentBackupsField,
  EXAMPLE_IDS,
  hasChange,
  idField,
  labelsField,
  NO_CHANGE,
  nameField,
  pageOf,
  ref,
} from './common.ts';
import { runSchema } from './run.ts';

const compression = z.enum(['none', 'zstd']);
const percent = z.number().min(0).max(100);

export const repositorySchema = z
  .object({
    id: idField,
    name: z.string(),
    storageNodeId: idField,
    storageNode: z.string().meta({ description: 'Name of its storage node.' }),
    limitBytes: bytesField.nullable().meta({ description: 'Null: as much as the file system has.' }),
    compression: compression.meta({ description: 'Of backups that do not say.' }),
    verifyPercentPerDay: percent.meta({ description: 'Share of its backups that is verified each day.' }),
    usedBytes: bytesField.nullable().meta({
      description: 'With what is set aside for backups under way; null when its storage node is away.',
    }),
    availableBytes: bytesField.nullable().meta({ description: 'What a new backup may take.' }),
    maxConcurrentBackups: concurrentBackupsField,
    labels: labelsField,
    state: z.enum(['creating', 'ready', 'deleting', 'lost']),
  })
  .meta({
    id: 'Repository',
    examples: [
      {
        id: EXAMPLE_IDS.repository,
        name: 'nightly',
        storageNodeId: EXAMPLE_IDS.storageNode,
        storageNode: 'beta',
        limitBytes: null,
        compression: 'none',
        verifyPercentPerDay: 5,
        usedBytes: 268_500_992,
        availableBytes: 402_653_184_000,
        maxConcurrentBackups: 8,
        labels: { purpose: 'nightly' },
        state: 'ready',
      },
    ],
  });

export const createRepositorySchema = z
  .strictObject({
    name: nameField,
    storageNode: ref('storage node that will hold it'),
    limitBytes: z.int().min(1).optional().meta({ description: 'Most bytes that its backups may take.' }),
    compression: compression.default('none').meta({ description: 'Of backups that do not say.' }),
    verifyPercentPerDay: percent
      .default(0)
      .meta({ description: 'Share of its backups to verify each day, those verified longest ago first.' }),
    labels: labelsField.optional(),
  })
  .meta({ id: 'CreateRepository', examples: [{ name: 'nightly', storageNode: 'beta' }] });

export const changeRepositorySchema = z
  .strictObject({
    verifyPercentPerDay: percent.optional(),
    labels: labelsField.optional(),
    maxConcurrentBackups: concurrentBackupsField.optional(),
  })
  .refine(hasChange, { error: NO_CHANGE })
  .meta({ id: 'ChangeRepository', minProperties: 1, examples: [{ verifyPercentPerDay: 10 }] });

export const repositoryQuery = chosenPageQuery.extend({
  state: repositorySchema.shape.state.optional().meta({ description: 'Only those in this state.' }),
  storageNode: ref('storage node').optional().meta({ description: 'Only those on this storage node.' }),
});

export const repositoryPageSchema = pageOf(repositorySchema, 'RepositoryPage');
export const repositoryRunSchema = z
  .object({ run: runSchema, repository: repositorySchema.nullable() })
  .meta({ id: 'RepositoryRun' });

export type RepositoryJson = z.output<typeof repositorySchema>;
export type ChangeRepository = z.output<typeof changeRepositorySchema>;
export type CreateRepository = z.output<typeof createRepositorySchema>;
