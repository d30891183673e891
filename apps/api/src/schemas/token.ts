// Tokens of the API: who may call it, as what, and about which volumes.
import { z } from 'zod';
import { ROLES } from '../access/actor.ts';
import { EXAMPLE_MOMENT, idField, momentField, nameField, pageOf, pageQuery } from './common.ts';

const roleField = z.enum(ROLES).meta({
  description: 'viewer: reads. operator: changes, too. admin: tokens, storage nodes and the audit log, too.',
});
const STATES = ['usable', 'expired', 'revoked'] as const;

const example = {
  id: 'd2c3b4a5-6f7e-4d8c-9b0a-1f2e3d4c5b09',
  name: 'ci',
  prefix: '5f0c3a9e7b1d2486',
  role: 'operator',
  scope: 'env=prod',
  state: 'usable',
  createdBy: 'bootstrap',
  createdAt: EXAMPLE_MOMENT,
  expiresAt: null,
  lastUsedAt: EXAMPLE_MOMENT,
  revokedAt: null,
} as const;

export const tokenSchema = z
  .object({
    id: idField,
    name: z.string(),
    prefix: z.string().meta({ description: 'The part of the token that is no secret.' }),
    role: roleField,
    scope: z.string().meta({
      description: 'Selector over the labels of volumes: what it is about. Empty: all there is.',
    }),
    state: z.enum(STATES),
    createdBy: z.string(),
    createdAt: momentField,
    expiresAt: momentField.nullable(),
    lastUsedAt: momentField.nullable().meta({ description: 'To the minute.' }),
    revokedAt: momentField.nullable(),
  })
  .meta({ id: 'Token', examples: [example] });

export const createTokenSchema = z
  .strictObject({
    name: nameField,
    role: roleField,
    scope: z
      .string()
      .max(2_048)
      .default('')
      .meta({
        description:
          'Selector over the labels of volumes. Others, and what belongs to them, are not there for the token; calls ' +
          'that are about no single volume are refused.',
      }),
    expiresAt: momentField.optional().meta({ description: 'Until revoked unless given.' }),
  })
  .meta({ id: 'CreateToken', examples: [{ name: 'ci', role: 'operator', scope: 'env=prod' }] });

export const createdTokenSchema = z
  .object({
    token: tokenSchema,
    secret: z.string().meta({ description: 'The token itself. It is shown this once, and kept nowhere.' }),
  })
  .meta({
    id: 'CreatedToken',
    examples: [{ token: example, secret: `tidemark_${example.prefix}_…` }],
  });

export const tokenQuery = pageQuery.extend({
  role: roleField.optional().meta({ description: 'Only tokens with this role.' }),
  state: z.enum(['usable', 'unusable']).optional().meta({ description: 'unusable: expired or revoked.' }),
});

export const revokeTokenQuery = z.object({
  allowLastAdmin: z
    .enum(['true', 'false'])
    .default('false')
    .transform(value => value === 'true')
    .meta({ description: 'Also where no other token lets an admin in.' }),
});

export const tokenPageSchema = pageOf(tokenSchema, 'TokenPage');
export type TokenJson = z.output<typeof tokenSchema>;
export type CreateToken = z.output<typeof createTokenSchema>;
