// Policies: list, look at, create, change, switch, delete, simulate, fire; and their firings.
import type { FastifyReply } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { idField, pageQuery, ref } from '../../schemas/common.ts';
import {
  firingMemberPageSchema,
  firingPageSchema,
  firingSchema,
  memberQuery,
  simulateQuery,
  simulationSchema,
} from '../../schemas/firing.ts';
import {
  createPolicySchema,
  policyPageSchema,
  policyQuery,
  policySchema,
  updatePolicySchema,
} from '../../schemas/policy.ts';
import { problems } from '../../schemas/problem.ts';

const tags = ['Policies'];
const params = z.object({ policy: ref('policy') });
const firingParams = params.extend({ firing: idField });
const known = problems('invalid-request', 'policy-not-found');
const knownFiring = problems('invalid-request', 'policy-not-found', 'firing-not-found');

const list = {
  schema: {
    tags,
    summary: 'List policies',
    description: 'Oldest first.',
    querystring: policyQuery,
    response: {
      200: policyPageSchema,
      ...problems('invalid-request', 'volume-not-found', 'repository-not-found'),
    },
  },
};

const create = {
  schema: {
    tags,
    summary: 'Create a policy',
    description: 'Switched off unless `enabled` says otherwise: simulate it first.',
    body: createPolicySchema,
    response: {
      201: policySchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'policy-invalid',
        'policy-name-taken',
        'repository-not-found',
        'storage-node-not-found',
      ),
    },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a policy',
    description: 'With the next moment at which it is due.',
    params,
    response: { 200: policySchema, ...known },
  },
};

const update = {
  schema: {
    tags,
    summary: 'Change a policy',
    description:
      'Only what is given. A changed schedule counts from now on. Of firings under way, concurrency, bandwidth and ' +
      'priority change at once; all else stays as it was when they began.',
    params,
    body: updatePolicySchema,
    response: {
      200: policySchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'policy-not-found',
        'policy-invalid',
        'policy-name-taken',
        'repository-not-found',
        'storage-node-not-found',
      ),
    },
  },
};

const enable = {
  schema: {
    tags,
    summary: 'Switch a policy on',
    description: 'It is due from now on; what was due before is not made up for.',
    params,
    response: { 200: policySchema, ...problems('invalid-request', 'policy-not-found', 'policy-invalid') },
  },
};

const disable = {
  schema: {
    tags,
    summary: 'Switch a policy off',
    description: 'What waits in its firings is left out; what was begun goes on.',
    params,
    response: { 200: policySchema, ...known },
  },
};

const remove = {
  schema: {
    tags,
    summary: 'Delete a policy',
    description: 'With its firings. Its backups stay, and so do runs that it started.',
    params,
    response: { 200: policySchema, ...known },
  },
};

const asking = { role: 'viewer', changesNothing: true } as const;

/** Aborted once nobody waits for the answer any more. */
function leaving(reply: FastifyReply): AbortSignal {
  const left = new AbortController();
  reply.raw.once('close', () => left.abort());
  return left.signal;
}

const simulateNew = {
  config: asking,
  schema: {
    tags,
    summary: 'Simulate a policy that is not saved',
    description: 'As for a saved one.',
    querystring: simulateQuery,
    body: createPolicySchema,
    response: {
      200: simulationSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'policy-invalid',
        'repository-not-found',
        'storage-node-not-found',
        'volume-not-found',
      ),
    },
  },
};

const simulate = {
  config: asking,
  schema: {
    tags,
    summary: 'Simulate a policy',
    description:
      'Each firing of the next days with the kind of each volume’s backup and what retention would take away after ' +
      'it, by the code that does it: as if it were switched on, nobody failed, and nobody else made or pruned backups.',
    params,
    querystring: simulateQuery,
    response: {
      200: simulationSchema,
      ...problems('invalid-request', 'policy-not-found', 'policy-invalid', 'volume-not-found'),
    },
  },
};

const fire = {
  schema: {
    tags,
    summary: 'Fire a policy now',
    description: 'Whatever its schedule says, also while it is switched off.',
    params,
    response: { 202: firingSchema, ...known },
  },
};

const firings = {
  schema: {
    tags,
    summary: 'List firings of a policy',
    description: 'Newest first, with those that were skipped.',
    params,
    querystring: pageQuery,
    response: { 200: firingPageSchema, ...known },
  },
};

const showFiring = {
  schema: {
    tags,
    summary: 'Look at a firing',
    description: 'How many of its members are where, and what followed.',
    params: firingParams,
    response: { 200: firingSchema, ...knownFiring },
  },
};

const members = {
  schema: {
    tags,
    summary: 'List members of a firing',
    description: 'Each volume with its run, and why it waits, failed or was left out.',
    params: firingParams,
    querystring: memberQuery,
    response: { 200: firingMemberPageSchema, ...knownFiring },
  },
};

const retry = {
  schema: {
    tags,
    summary: 'Retry a firing',
    description: 'Only members that failed or did not start.',
    params: firingParams,
    response: {
      202: firingSchema,
      ...problems('invalid-request', 'policy-not-found', 'firing-not-found', 'firing-complete'),
    },
  },
};

export const policyRoutes: FastifyPluginAsyncZod = async app => {
  const { policies } = app;
  app.get('/policies', list, request => policies.list(request.query));
  app.post('/policies', create, async (request, reply) => {
    const policy = await policies.create(request.body);
    reply.code(201).header('location', `/v1/policies/${policy.id}`);
    return policy;
  });
  app.post('/policies/simulate', simulateNew, (request, reply) =>
    policies.simulateNew(request.body, request.query, leaving(reply)),
  );
  app.get('/policies/:policy', show, request => policies.get(request.params.policy));
  app.patch('/policies/:policy', update, request => policies.update(request.params.policy, request.body));
  app.delete('/policies/:policy', remove, request => policies.delete(request.params.policy));
  app.post('/policies/:policy/enable', enable, request => policies.setEnabled(request.params.policy, true));
  app.post('/policies/:policy/disable', disable, request =>
    policies.setEnabled(request.params.policy, false),
  );
  app.post('/policies/:policy/simulate', simulate, (request, reply) =>
    policies.simulate(request.params.policy, request.query, leaving(reply)),
  );
  app.post('/policies/:policy/fire', fire, async (request, reply) => {
    const firing = await policies.fire(request.params.policy);
    reply.code(202).header('location', `/v1/policies/${firing.policyId}/firings/${firing.id}`);
    return firing;
  });
  app.get('/policies/:policy/firings', firings, request =>
    policies.listFirings(request.params.policy, request.query),
  );
  app.get('/policies/:policy/firings/:firing', showFiring, request =>
    policies.getFiring(request.params.policy, request.params.firing),
  );
  app.get('/policies/:policy/firings/:firing/members', members, request =>
    policies.listMembers(request.params.policy, request.params.firing, request.query),
  );
  app.post('/policies/:policy/firings/:firing/retry', retry, async (request, reply) => {
    reply.code(202);
    return policies.retry(request.params.policy, request.params.firing);
  });
};
