// Reads a repository's folder anew and makes the catalog say what its manifests do: the way back after the catalog was
// lost. What the catalog has and the folder has not is told of, never deleted.
import { z } from 'zod';
import { LONG_CALL_TIMEOUT_MS } from '../limits.ts';
import type { RunDefinition } from './run-definition.ts';

/** Of each list that a result shows; all are counted. */
const LISTED_MAX = 100;

const ids = z.object({ count: z.number(), ids: z.array(z.string()) });
const scanned = z.object({
  found: z.number(),
  added: ids,
  updated: ids,
  /** In the catalog, and not in the folder. */
  missing: ids,
  problems: z.array(z.object({ what: z.string(), backupId: z.string().nullable(), message: z.string() })),
});

export const scanRepositoryRun: RunDefinition<'scan-repository'> = {
  steps: [
    {
      name: 'scan',
      async run({ request: { repositoryId }, run, storageNodes, catalog, stop }) {
        const { repositories } = await storageNodes.ofRepository(repositoryId);
        const options = { signal: stop, timeoutMs: LONG_CALL_TIMEOUT_MS };
        const lookedAfter = await catalog.events.newestId();
        const { backups, problems } = await repositories.scanRepository({ repositoryId }, options);
        const report = await catalog.backups.importFromManifests(repositoryId, backups, run.id, {
          lookedAfter,
        });
        const refused = report.refused.map(({ backupId, message }) => ({
          what: 'refused',
          backupId,
          message,
        }));
        const told = problems.map(({ what, backupId, message }) => ({
          what,
          backupId: backupId === '' ? null : backupId,
          message,
        }));
        return {
          output: {
            found: backups.length,
            added: listed(report.added),
            updated: listed(report.updated),
            missing: listed(report.missing),
            problems: [...refused, ...told].slice(0, LISTED_MAX),
          },
        };
      },
    },
  ],
  result: context => ({
    repositoryId: context.request.repositoryId,
    ...context.output('scan', scanned),
  }),
  withdraw: async () => {},
};

function listed(all: readonly string[]) {
  return { count: all.length, ids: all.slice(0, LISTED_MAX) };
}
