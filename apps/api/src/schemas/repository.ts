// Repositories: places on storage nodes that hold backups.
import { z } from 'zod';
import { bytesField, EXAMPLE_IDS, idField, nameField, pageOf, ref } from './common.ts';
import { runSchema } from './run.ts';

export const repositorySchema = z
  .object({
    id: idField,
    name: z.string(),
    storageNodeId: idField,
    storageNode: z.string().meta({ description: 'Name of its storage node.' }),
    limitBytes: bytesField.nullable().meta({ description: 'Null: as much as the file system has.' }),
    state: z.enum(['creating', 'ready']),
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
        state: 'ready',
      },
    ],
  });

export const createRepositorySchema = z
  .strictObject({
    name: nameField,
    storageNode: ref('storage node that will hold it'),
    limitBytes: z.int().min(1).optional().meta({ description: 'Most bytes that its backups may take.' }),
  })
  .meta({ id: 'CreateRepository', examples: [{ name: 'nightly', storageNode: 'beta' }] });

export const repositoryPageSchema = pageOf(repositorySchema, 'RepositoryPage');
export const repositoryRunSchema = z
  .object({ run: runSchema, repository: repositorySchema.nullable() })
  .meta({ id: 'RepositoryRun' });

export type RepositoryJson = z.output<typeof repositorySchema>;
export type CreateRepository = z.output<typeof createRepositorySchema>;
