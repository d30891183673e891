// Storage nodes: the machines that own volumes and repositories.
import { SELECTOR_CHARACTERS_MAX } from '@tidemark/proto';
import { z } from 'zod';
import {
  bytesField,
  chosenPageQuery,
  concurrentBackupsField,
  EXAMPLE_IDS,
  EXAMPLE_MOMENT,
  hasChange,
  idField,
  labelsField,
  momentField,
  NO_CHANGE,
  nameField,
  pageOf,
  speedField,
} from './common.ts';
import { runSchema } from './run.ts';

const HOST_PORT = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/;

/** A host name has at most 253 characters (RFC 1035, section 2.3.4), and a port five. */
const ADDRESS_CHARACTERS_MAX = 253 + 1 + 5;

export const controlAddressField = z
  .string()
  .max(ADDRESS_CHARACTERS_MAX)
  .refine(text => Number(HOST_PORT.exec(text)?.[2] ?? 0) > 0 && Number(HOST_PORT.exec(text)?.[2]) <= 65_535, {
    error: issue =>
      `is ${JSON.stringify(issue.input)}, which is no address; send host:port of the storage node's ` +
      'control service, for instance 127.0.0.1:7411',
  })
  .meta({ description: 'host:port of its control service.', examples: ['127.0.0.1:7411'] });

export const storageNodeSchema = z
  .object({
    id: idField,
    name: z.string(),
    controlAddress: z.string(),
    nbdAddress: z.string().nullable().meta({ description: 'host:port that its exports are reached at.' }),
    state: z.enum(['joining', 'online', 'unreachable', 'lost']),
    cordonedAt: momentField.nullable().meta({ description: 'Nothing new goes there since then.' }),
    lastSeenAt: momentField.nullable(),
    capacityBytes: bytesField.nullable(),
    availableBytes: bytesField.nullable(),
    version: z.string().nullable(),
    maxConcurrentBackups: concurrentBackupsField,
    labels: labelsField,
  })
  .meta({
    id: 'StorageNode',
    examples: [
      {
        id: EXAMPLE_IDS.storageNode,
        name: 'alpha',
        controlAddress: '127.0.0.1:7411',
        nbdAddress: '127.0.0.1:10809',
        state: 'online',
        cordonedAt: null,
        lastSeenAt: EXAMPLE_MOMENT,
        capacityBytes: 2_000_000_000_000,
        availableBytes: 1_500_000_000_000,
        version: '0.1.0',
        maxConcurrentBackups: 4,
        labels: { zone: 'a' },
      },
    ],
  });

export const createStorageNodeSchema = z
  .strictObject({ name: nameField, controlAddress: controlAddressField, labels: labelsField.optional() })
  .meta({ id: 'CreateStorageNode', examples: [{ name: 'alpha', controlAddress: '127.0.0.1:7411' }] });

export const updateStorageNodeSchema = z
  .strictObject({ labels: labelsField.optional(), maxConcurrentBackups: concurrentBackupsField.optional() })
  .refine(hasChange, { error: NO_CHANGE })
  .meta({ id: 'UpdateStorageNode', minProperties: 1, examples: [{ labels: { zone: 'a' } }] });

export const storageNodeQuery = chosenPageQuery.extend({
  state: storageNodeSchema.shape.state.optional().meta({ description: 'Only those in this state.' }),
});

export const storageNodePageSchema = pageOf(storageNodeSchema, 'StorageNodePage');
export const storageNodeRunSchema = z
  .object({ run: runSchema, storageNode: storageNodeSchema.nullable() })
  .meta({ id: 'StorageNodeRun', description: 'The storage node is null once it is removed.' });

const targets = z
  .string()
  .max(SELECTOR_CHARACTERS_MAX)
  .default('')
  .meta({ description: 'Of the storage nodes that volumes may go to, by their labels; any by default.' });

export const drainStorageNodeSchema = z
  .strictObject({ selector: targets, speedBytesPerSecond: speedField })
  .meta({ id: 'DrainStorageNode', examples: [{ selector: 'zone=b' }] });

export const recoverStorageNodeSchema = z
  .strictObject({
    selector: targets,
    instant: z.boolean().default(false).meta({
      description: 'The volumes are there at once, and pull their backups behind; they become qcow2.',
    }),
  })
  .meta({ id: 'RecoverStorageNode', examples: [{ selector: 'zone=b', instant: true }] });

export const joinedSchema = z
  .object({ run: runSchema.nullable(), storageNode: storageNodeSchema })
  .meta({ id: 'JoinedStorageNode', description: 'The run is null for a storage node that was known.' });

export type DrainStorageNode = z.output<typeof drainStorageNodeSchema>;
export type RecoverStorageNode = z.output<typeof recoverStorageNodeSchema>;
export type StorageNodeJson = z.output<typeof storageNodeSchema>;
export type UpdateStorageNode = z.output<typeof updateStorageNodeSchema>;
export type CreateStorageNode = z.output<typeof createStorageNodeSchema>;
