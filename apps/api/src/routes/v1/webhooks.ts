// Webhooks: give, look at, change and take away addresses that events are sent to; look after what was sent.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { idField, ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import {
  createWebhookSchema,
  deliveryPageSchema,
  deliveryQuery,
  deliverySchema,
  updateWebhookSchema,
  webhookPageSchema,
  webhookQuery,
  webhookSchema,
  webhookWithSecretSchema,
} from '../../schemas/webhook.ts';

const tags = ['Webhooks'];
const params = z.object({ webhook: ref('webhook') });
const deliveryParams = params.extend({ delivery: idField });
// Addresses of other systems, and who is told of what, are not for everybody.
const config = { role: 'admin' } as const;
const withSecret = { ...config, secretAnswer: true } as const;
const known = problems('invalid-request', 'webhook-not-found');

const list = {
  config,
  schema: {
    tags,
    summary: 'List webhooks',
    description: 'Oldest first.',
    querystring: webhookQuery,
    response: { 200: webhookPageSchema, ...problems('invalid-request') },
  },
};

const create = {
  config: withSecret,
  schema: {
    tags,
    summary: 'Add a webhook',
    description:
      'Events from now on are sent to it as POST requests, in their order, at least once each, with the header ' +
      '`tidemark-signature: t=SECONDS,v1=HEX`: HMAC-SHA256 with the secret over `SECONDS.BODY`. Any answer from 200 ' +
      'to 299 takes a delivery; otherwise it is tried again with growing delays, and the next ones wait. The answer ' +
      'holds the secret, this once.',
    body: createWebhookSchema,
    response: {
      201: webhookWithSecretSchema,
      ...problems('invalid-request', 'invalid-name', 'webhook-name-taken'),
    },
  },
};

const show = {
  config,
  schema: {
    tags,
    summary: 'Look at a webhook',
    description: 'Everything but its secret.',
    params,
    response: { 200: webhookSchema, ...known },
  },
};

const update = {
  config,
  schema: {
    tags,
    summary: 'Change a webhook',
    description:
      'Only what is given. It is tried at once afterwards, with all its tries. From then on it is sent on behalf of ' +
      'whoever asks; its scope stays.',
    params,
    body: updateWebhookSchema,
    response: { 200: webhookSchema, ...known },
  },
};

const renewSecret = {
  config: withSecret,
  schema: {
    tags,
    summary: 'Give a webhook a new secret',
    description: 'The old one signs nothing any more. The answer holds the new one, this once.',
    params,
    response: { 200: webhookWithSecretSchema, ...known },
  },
};

const remove = {
  config,
  schema: {
    tags,
    summary: 'Remove a webhook',
    description: 'With its deliveries, also those that wait.',
    params,
    response: { 200: webhookSchema, ...known },
  },
};

const ping = {
  config,
  schema: {
    tags,
    summary: 'Send a ping',
    description:
      'A delivery of kind `ping`, after those that wait. Look at the deliveries for what came of it.',
    params,
    response: { 202: deliverySchema, ...known },
  },
};

const deliveries = {
  config,
  schema: {
    tags,
    summary: "List a webhook's deliveries",
    description: 'Those that are sent last first. They are kept as long as events.',
    params,
    querystring: deliveryQuery,
    response: { 200: deliveryPageSchema, ...known },
  },
};

const redeliver = {
  config,
  schema: {
    tags,
    summary: 'Send a delivery again',
    description: 'With the same body and all its tries, also one that was taken or is dead.',
    params: deliveryParams,
    response: {
      202: deliverySchema,
      ...problems('invalid-request', 'webhook-not-found', 'webhook-delivery-not-found'),
    },
  },
};

export const webhookRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/webhooks', list, request => app.webhooks.list(request.query));

  app.post('/webhooks', create, async (request, reply) => {
    const made = await app.webhooks.create(request.body);
    reply.code(201).header('location', `/v1/webhooks/${made.webhook.id}`);
    return made;
  });

  app.get('/webhooks/:webhook', show, request => app.webhooks.get(request.params.webhook));

  app.patch('/webhooks/:webhook', update, request =>
    app.webhooks.update(request.params.webhook, request.body),
  );

  app.delete('/webhooks/:webhook', remove, request => app.webhooks.delete(request.params.webhook));

  app.post('/webhooks/:webhook/secret', renewSecret, request =>
    app.webhooks.renewSecret(request.params.webhook),
  );

  app.post('/webhooks/:webhook/ping', ping, async (request, reply) => {
    reply.code(202);
    return app.webhooks.ping(request.params.webhook);
  });

  app.get('/webhooks/:webhook/deliveries', deliveries, request =>
    app.webhooks.listDeliveries(request.params.webhook, request.query),
  );

  app.post('/webhooks/:webhook/deliveries/:delivery/redeliver', redeliver, async (request, reply) => {
    reply.code(202);
    return app.webhooks.redeliver(request.params.webhook, request.params.delivery);
  });
};
