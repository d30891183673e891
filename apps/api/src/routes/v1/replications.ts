// Replication: backups copied to another repository, and the rules that ask for it.
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { idField, ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import {
  changeReplicationRuleSchema,
  createReplicationRuleSchema,
  replicaRunSchema,
  replicateBackupSchema,
  replicationRulePageSchema,
  replicationRuleQuery,
  replicationRuleSchema,
} from '../../schemas/replication.ts';
import { waitQuery } from '../../schemas/run.ts';
import { answerRun } from '../answer-run.ts';

const DESCRIPTION = `Starts a replicate run: the storage node of the other repository reads what is missing there
from this one's, compares it with its checksums, and publishes it. What the backup stands on comes first, as far as it
is missing, each published by itself; with \`flatten\` the replica is one full backup. Nothing is sent that is there.`;

const tags = ['Replication'];
const params = z.object({ rule: ref('rule') });

const replicate = {
  schema: {
    tags,
    summary: 'Replicate a backup',
    description: DESCRIPTION,
    params: z.object({ backup: idField }),
    querystring: waitQuery,
    body: replicateBackupSchema,
    response: {
      201: replicaRunSchema,
      202: replicaRunSchema,
      ...problems(
        'invalid-request',
        'backup-not-found',
        'backup-not-usable',
        'backup-exists',
        'backup-in-use',
        'backup-damaged',
        'repository-not-found',
        'repository-not-ready',
        'repository-full',
        'storage-node-not-ready',
        'storage-node-unreachable',
        'storage-node-cordoned',
        'image-invalid',
        'io-error',
        'run-cancelled',
        'wait-timed-out',
      ),
    },
  },
};

const list = {
  schema: {
    tags,
    summary: 'List replication rules',
    description: 'Oldest first, without their status.',
    querystring: replicationRuleQuery,
    response: { 200: replicationRulePageSchema, ...problems('invalid-request', 'repository-not-found') },
  },
};

const show = {
  schema: {
    tags,
    summary: 'Look at a replication rule',
    description:
      'With what is missing in its target, how old the oldest of it is, and what keeps it from coming.',
    params,
    response: { 200: replicationRuleSchema, ...problems('invalid-request', 'replication-rule-not-found') },
  },
};

const create = {
  schema: {
    tags,
    summary: 'Create a replication rule',
    description:
      'From then on what is missing in the target is copied there, and what the rule does not keep is pruned there.',
    body: createReplicationRuleSchema,
    response: {
      201: replicationRuleSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'repository-not-found',
        'repository-not-ready',
        'replication-rule-name-taken',
      ),
    },
  },
};

const change = {
  schema: {
    tags,
    summary: 'Change a replication rule',
    description: 'Runs that are under way go on as they began. Repositories of a rule do not change.',
    params,
    body: changeReplicationRuleSchema,
    response: {
      200: replicationRuleSchema,
      ...problems(
        'invalid-request',
        'invalid-name',
        'replication-rule-not-found',
        'replication-rule-name-taken',
      ),
    },
  },
};

const remove = {
  schema: {
    tags,
    summary: 'Delete a replication rule',
    description: 'What was replicated stays, and nothing prunes it any more.',
    params,
    response: { 200: replicationRuleSchema, ...problems('invalid-request', 'replication-rule-not-found') },
  },
};

export const replicationRoutes: FastifyPluginAsyncZod = async app => {
  app.post('/backups/:backup/replicate', replicate, async (request, reply) => {
    const started = await app.replications.replicate(request.params.backup, request.body);
    const { id } = started.backup;
    const refresh = async () => ({ backup: await app.backups.find(id) });
    const answer = { started, refresh, made: `/v1/backups/${id}` };
    return answerRun<{ backup: typeof started.backup | null }>(app, request, reply, answer);
  });

  app.get('/replication-rules', list, request => app.replications.list(request.query));

  app.get('/replication-rules/:rule', show, request => app.replications.get(request.params.rule));

  app.post('/replication-rules', create, async (request, reply) => {
    const rule = await app.replications.create(request.body);
    reply.code(201).header('location', `/v1/replication-rules/${rule.id}`);
    return rule;
  });

  app.patch('/replication-rules/:rule', change, request =>
    app.replications.change(request.params.rule, request.body),
  );

  app.delete('/replication-rules/:rule', remove, request => app.replications.delete(request.params.rule));
};
