// Webhooks: where events are sent to, and what became of each delivery.
import { eventKindsFault, webhookUrlFault } from '@tidemark/proto';
import { z } from 'zod';
import { EVENT_KINDS_MAX, WEBHOOK_URL_CHARACTERS_MAX } from '../limits.ts';
import {
  EXAMPLE_MOMENT,
  idField,
  momentField,
  namedPageQuery,
  nameField,
  pageOf,
  pageQuery,
  selectorField,
} from './common.ts';

const EXAMPLE_WEBHOOK = 'd2f3a4b5-6c7d-4e8f-9a0b-1c2d3e4f5a09';

const urlField = z
  .string()
  .max(WEBHOOK_URL_CHARACTERS_MAX)
  .refine(text => webhookUrlFault(text) === null, {
    error: issue => webhookUrlFault(String(issue.input)) ?? '',
  })
  .meta({
    description: 'http: or https:, without a user and a password. Redirects are not followed.',
    examples: ['https://ops.example/tidemark'],
  });

const kindsField = z
  .array(z.string().min(1).max(64))
  .max(EVENT_KINDS_MAX)
  .meta({ description: 'Kinds of the events to send; empty: all.' });

const choiceField = selectorField.meta({
  description:
    'Of the labels of the volume, storage node or repository that an event is about, as they are when it is sent; ' +
    'empty: all events.',
});

/** As a request gives them: one that is misspelt would never be sent. */
const chosenKindsField = kindsField
  .refine(kinds => eventKindsFault(kinds) === null, {
    error: issue => eventKindsFault(issue.input as string[]) ?? '',
  })
  .meta({ description: 'Kinds of the events to send, of those in docs/EVENTS.md; empty: all.' });

export const webhookSchema = z
  .object({
    id: idField,
    name: z.string(),
    url: z.string(),
    kinds: kindsField,
    selector: z.string(),
    createdBy: z.string(),
    scope: z.string().meta({
      description: 'That of the token that added it: events outside are not sent. Empty: all there is.',
    }),
    onBehalfOf: z.string().meta({
      description: 'Whoever changed it last. When their token is revoked or expires, it is suspended.',
    }),
    state: z.enum(['enabled', 'disabled', 'suspended']).meta({
      description: 'suspended: nothing is sent, and events wait, until it is enabled again.',
    }),
    suspendedFor: z
      .enum(['deliveries-died', 'token-revoked', 'token-expired'])
      .nullable()
      .meta({
        description:
          'Null unless it is suspended. deliveries-died: one after the other; enable it again when its endpoint ' +
          'is back. token-revoked, token-expired: that of whoever changed it last; whoever enables it again takes ' +
          'it over.',
      }),
    deathsInARow: z.int().min(0).meta({ description: 'Deliveries that died since the last that was taken.' }),
    nextAt: momentField.nullable().meta({ description: 'No attempt before then.' }),
    createdAt: momentField,
  })
  .meta({
    id: 'Webhook',
    examples: [
      {
        id: EXAMPLE_WEBHOOK,
        name: 'ops',
        url: 'https://ops.example/tidemark',
        kinds: ['run-failed', 'backup-available'],
        selector: 'env=prod',
        createdBy: 'bootstrap',
        scope: '',
        onBehalfOf: 'bootstrap',
        state: 'enabled',
        suspendedFor: null,
        deathsInARow: 0,
        nextAt: null,
        createdAt: EXAMPLE_MOMENT,
      },
    ],
  });

export const webhookWithSecretSchema = z
  .object({
    webhook: webhookSchema,
    secret: z.string().meta({ description: 'Shown this once. Deliveries are signed with it.' }),
  })
  .meta({ id: 'WebhookWithSecret' });

export const createWebhookSchema = z
  .strictObject({
    name: nameField,
    url: urlField,
    kinds: chosenKindsField.default([]),
    selector: choiceField.default(''),
  })
  .meta({
    id: 'CreateWebhook',
    examples: [{ name: 'ops', url: 'https://ops.example/tidemark', kinds: ['run-failed'] }],
  });

export const updateWebhookSchema = z
  .strictObject({
    url: urlField.optional(),
    kinds: chosenKindsField.optional(),
    selector: choiceField.optional(),
    enabled: z
      .boolean()
      .optional()
      .meta({ description: 'false: nothing is sent, and events wait; true: takes up again.' }),
  })
  .meta({ id: 'UpdateWebhook', examples: [{ enabled: false }] });

export const deliverySchema = z
  .object({
    id: idField,
    eventId: z.int().nullable().meta({ description: 'Null: a ping, or a word about events that are gone.' }),
    kind: z.string(),
    state: z.enum(['pending', 'delivered', 'dead']),
    attempts: z.int().min(0),
    status: z.int().nullable().meta({ description: 'HTTP status of the last answer.' }),
    detail: z.string().nullable().meta({ description: 'What went wrong with the last attempt.' }),
    body: z.string().meta({ description: 'As it is sent, byte by byte.' }),
    attemptedAt: momentField.nullable(),
    createdAt: momentField,
  })
  .meta({
    id: 'WebhookDelivery',
    examples: [
      {
        id: 'b7c8d9e0-2f3a-4b4c-8d5e-6f7a8b9c0d23',
        eventId: 42,
        kind: 'run-failed',
        state: 'pending',
        attempts: 1,
        status: 503,
        detail: 'answered 503',
        body: '{"id":42,"kind":"run-failed"}',
        attemptedAt: EXAMPLE_MOMENT,
        createdAt: EXAMPLE_MOMENT,
      },
    ],
  });

export const webhookQuery = namedPageQuery.extend({
  state: webhookSchema.shape.state.optional().meta({ description: 'Only webhooks in this state.' }),
  onBehalfOf: z.string().min(1).max(128).optional().meta({ description: 'Only what they changed last.' }),
});

export const deliveryQuery = pageQuery.extend({
  state: z.enum(['pending', 'delivered', 'dead']).optional().meta({ description: 'Only these.' }),
});

export const webhookPageSchema = pageOf(webhookSchema, 'WebhookPage');
export const deliveryPageSchema = pageOf(deliverySchema, 'WebhookDeliveryPage');

export type WebhookJson = z.output<typeof webhookSchema>;
export type DeliveryJson = z.output<typeof deliverySchema>;
export type CreateWebhook = z.output<typeof createWebhookSchema>;
export type UpdateWebhook = z.output<typeof updateWebhookSchema>;
