// Join tokens: each lets one storage node join the fleet by itself.
import { z } from 'zod';
import { JOIN_TOKEN_DEFAULT_MS, JOIN_TOKEN_MAX_MS } from '../limits.ts';
import {
  EXAMPLE_IDS,
  EXAMPLE_MOMENT,
  idField,
  labelsField,
  momentField,
  nameField,
  pageOf,
} from './common.ts';
import { controlAddressField } from './storage-node.ts';

const example = {
  id: 'e3d4c5b6-7a8f-4e9d-8c1b-2a3f4e5d6c0a',
  name: 'gamma',
  expiresAt: EXAMPLE_MOMENT,
  usedAt: null,
  storageNodeId: null,
  createdAt: EXAMPLE_MOMENT,
};

const joinTokenSchema = z
  .object({
    id: idField,
    name: z
      .string()
      .nullable()
      .meta({ description: 'Only a storage node of this name may use it; null: any.' }),
    expiresAt: momentField,
    usedAt: momentField.nullable(),
    storageNodeId: idField.nullable().meta({ description: 'Which one has used it.' }),
    createdAt: momentField,
  })
  .meta({ id: 'JoinToken', examples: [example] });

export const createJoinTokenSchema = z
  .strictObject({
    name: nameField.optional().meta({ description: 'Only a storage node of this name may use it.' }),
    expiresInMs: z
      .int()
      .min(1)
      .max(JOIN_TOKEN_MAX_MS)
      .default(JOIN_TOKEN_DEFAULT_MS)
      .meta({ description: 'An hour by default, at most a week.' }),
  })
  .meta({ id: 'CreateJoinToken', examples: [{ name: 'gamma' }] });

export const createdJoinTokenSchema = z
  .object({
    joinToken: joinTokenSchema,
    secret: z.string().meta({ description: 'The token itself; it cannot be shown again.' }),
  })
  .meta({ id: 'CreatedJoinToken', examples: [{ joinToken: example, secret: 'tmj_5f0c3a9e7b1d2486' }] });

export const deletedJoinTokenSchema = z
  .object({ id: idField })
  .meta({ id: 'DeletedJoinToken', examples: [{ id: example.id }] });

export const joinSchema = z
  .strictObject({
    token: z.string().min(1).max(200),
    name: nameField,
    controlAddress: controlAddressField,
    instanceId: idField.meta({ description: 'Given once, at its first start, and kept on its disk.' }),
    labels: labelsField.default({}),
  })
  .meta({
    id: 'JoinStorageNode',
    examples: [
      {
        token: 'tmj_5f0c3a9e7b1d2486',
        name: 'gamma',
        controlAddress: '10.0.0.3:7411',
        instanceId: EXAMPLE_IDS.storageNode,
        labels: { zone: 'a' },
      },
    ],
  });

export const joinTokenPageSchema = pageOf(joinTokenSchema, 'JoinTokenPage');

export type JoinTokenJson = z.output<typeof joinTokenSchema>;
export type CreateJoinToken = z.output<typeof createJoinTokenSchema>;
export type JoinStorageNode = z.output<typeof joinSchema>;
