// The contract for machines at /openapi.json and for people at /docs, both made from the routes' schemas.
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import fastifyPlugin from 'fastify-plugin';
import { jsonSchemaTransform } from 'fastify-type-provider-zod';
import { version } from '../version.ts';
import { finishDocument } from './openapi-document.ts';

const DESCRIPTION = `Named points in time of block volumes across a fleet of storage nodes.

Every call that changes something starts a **run** and answers 202 with it at once; \`wait=checkpoint\` and
\`wait=done\` keep the call open until the run is there. Guests and backup data move over NBD, never through
this API. Every failure is a problem document (RFC 9457) with a stable \`code\`.`;

// All files of the page come out of the package. The package's own policy also turns every request into
// HTTPS, which this service does not speak.
const PAGE_POLICY = {
  'default-src': ["'self'"],
  'base-uri': ["'self'"],
  'frame-ancestors': ["'self'"],
  'img-src': ["'self'", 'data:'],
  'object-src': ["'none'"],
  'style-src': ["'self'", "'unsafe-inline'"],
};

const TAGS = [
  { name: 'Storage nodes', description: 'The machines that own volumes and repositories.' },
  { name: 'Volumes', description: 'Block devices of guests, each exported over NBD by one storage node.' },
  { name: 'Checkpoints', description: 'Named points in time of a volume, the bases of incremental backups.' },
  { name: 'Snapshots', description: 'What a volume held at one instant, kept in an image of its own.' },
  { name: 'Commits', description: "Merges of a volume's images into ones below." },
  {
    name: 'Policies',
    description:
      'What is backed up when, by schedule, and for how long it is kept; each firing with its runs.',
  },
  {
    name: 'Groups',
    description: 'Checkpoints and backups of several volumes, on whatever storage nodes, at one instant.',
  },
  { name: 'Repositories', description: 'Places on storage nodes that hold backups.' },
  { name: 'Backups', description: 'The content of a volume at a checkpoint, kept in a repository.' },
  { name: 'Exports', description: 'Frozen moments of volumes, for others to pull over NBD.' },
  { name: 'Replication', description: 'Backups in another repository, too: once, or by rules.' },
  { name: 'Retention', description: 'Which backups stay, by which rule, and which go.' },
  {
    name: 'Restores',
    description:
      'Backups brought back: to a new volume, at once or as it is pulled, over a volume, or to a plain file.',
  },
  { name: 'Runs', description: "Executions of operators' requests, step by step." },
  { name: 'Events', description: 'What changed, in the order in which it changed.' },
  { name: 'Webhooks', description: 'Addresses that events are sent to, signed.' },
  { name: 'Differences', description: 'Where storage nodes and catalog do not agree, by name.' },
  { name: 'Access', description: 'Who may call, and who asked for which change.' },
  { name: 'Health', description: 'Probes.' },
];

export const openapi = fastifyPlugin(
  async app => {
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Tidemark',
          version,
          description: DESCRIPTION,
          license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
        },
        tags: TAGS,
        components: {
          securitySchemes: {
            token: { type: 'http', scheme: 'bearer', description: 'Made with `tidemark token create`.' },
          },
        },
        security: [{ token: [] }],
      },
      transform: jsonSchemaTransform,
      transformObject: finishDocument,
    });
    await app.register(swaggerUi, {
      routePrefix: '/docs',
      uiConfig: { docExpansion: 'list' },
      staticCSP: PAGE_POLICY,
    });
    app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
  },
  { name: 'openapi' },
);
