// What changed between checkpoints of a volume: counted, in pages, or all of it as a stream of lines.
import { Readable } from 'node:stream';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import {
  changedBlocksLineSchema,
  changedBlocksQuery,
  changedBlocksSchema,
  changedBytesQuery,
  changedBytesSchema,
} from '../../schemas/checkpoint.ts';
import { ref } from '../../schemas/common.ts';
import { problems } from '../../schemas/problem.ts';
import { callerGone } from '../answer-run.ts';

const tags = ['Checkpoints'];
const params = z.object({ volume: ref('volume') });
const NDJSON = 'application/x-ndjson';

const refusals = problems(
  'invalid-request',
  'volume-not-found',
  'checkpoint-not-found',
  'checkpoint-not-ready',
  'checkpoint-inconsistent',
  'storage-node-not-ready',
  'storage-node-unreachable',
);

const changedBlocks = {
  schema: {
    tags,
    summary: 'List what changed',
    description:
      'Extents that were written between two checkpoints, or from one until now. In pages; or, with the header ' +
      `\`accept: ${NDJSON}\`, all of one moment as lines of JSON, the last of which says \`end\`.`,
    params,
    querystring: changedBlocksQuery,
    response: {
      200: {
        description: 'A page, or the lines.',
        content: {
          'application/json': { schema: changedBlocksSchema },
          [NDJSON]: { schema: changedBlocksLineSchema },
        },
      },
      ...refusals,
    },
  },
};

const changedBytes = {
  schema: {
    tags,
    summary: 'Count what changed',
    description: 'Bytes of the same, in whole granules: never less than an increment sends.',
    params,
    querystring: changedBytesQuery,
    response: { 200: changedBytesSchema, ...refusals },
  },
};

export const changeRoutes: FastifyPluginAsyncZod = async app => {
  app.get('/volumes/:volume/changed-blocks', changedBlocks, async (request, reply) => {
    const { volume } = request.params;
    if (!request.headers.accept?.includes(NDJSON)) return app.changes.page(volume, request.query);
    const lines = await app.changes.lines(volume, request.query, callerGone(reply));
    return reply.type(NDJSON).send(Readable.from(lines, { objectMode: false }) as never);
  });

  app.get('/volumes/:volume/changed-bytes', changedBytes, request =>
    app.changes.count(request.params.volume, request.query),
  );
};
