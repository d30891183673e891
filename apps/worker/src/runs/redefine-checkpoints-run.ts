// The catalog lost checkpoints that the storage node still has: their rows are made again, all of them or none.
import { z } from 'zod';
import { planRedefinition, type Redefined, redefinedSchema } from './redefinition.ts';
import type { RunContext, RunDefinition, Step } from './run-definition.ts';
import { tolerate } from './tolerate.ts';

type Context = RunContext<'redefine-checkpoints'>;

const missing = z.object({ id: z.string(), name: z.string() });
const validated = z.object({ checkpoints: z.array(redefinedSchema), missing: z.array(missing) });

const validate: Step<'redefine-checkpoints'> = {
  name: 'validate',
  async run({ request, catalog, storageNodes, stop }) {
    const { volumeId, definitions, allowInconsistent } = request;
    const { name: volume } = await catalog.volumes.get(volumeId);
    // Before the storage node is asked: a row comes before what it stands for, and goes after it.
    const rows = await allCheckpoints(catalog, volumeId);
    const { checkpoints } = await storageNodes.ofVolume(volumeId);
    const { checkpoints: live } = await checkpoints.listCheckpoints({ volumeId }, { signal: stop });
    const known = new Map(rows.map(row => [row.id, row.name]));
    const redefined = planRedefinition({ volume, definitions, live, known, allowInconsistent });
    const there = new Set(live.map(({ checkpointId }) => checkpointId));
    const gone = rows.filter(({ id, state }) => state === 'ready' && !there.has(id));
    return { output: { checkpoints: redefined, missing: gone.map(row => ({ id: row.id, name: row.name })) } };
  },
};

const importRows: Step<'redefine-checkpoints'> = {
  name: 'import',
  final: true,
  async run(context) {
    const { request, run } = context;
    if (request.validateOnly) return {};
    const found = planned(context).map(({ id, name, description, pointInTimeMs, originBackupId }) => ({
      id,
      volumeId: request.volumeId,
      name,
      description,
      pointInTime: new Date(pointInTimeMs),
      originBackupId,
    }));
    return { commit: catalog => catalog.checkpoints.import(found, run.id) };
  },
};

const tellTexts: Step<'redefine-checkpoints'> = {
  name: 'tell-texts',
  final: true,
  // The catalog's are what counts.
  dispensable: true,
  async run(context) {
    const { request, storageNodes, call, stop } = context;
    const { volumeId, validateOnly } = request;
    const differing = validateOnly ? [] : planned(context).filter(({ isNewText }) => isNewText);
    const { checkpoints } = await storageNodes.ofVolume(volumeId);
    for (const { id: checkpointId, name, description } of differing) {
      const step = call(`tell ${checkpointId}`);
      const texts = { step, volumeId, checkpointId, name, description };
      await tolerate(['checkpoint-not-found'], checkpoints.updateCheckpoint(texts, { signal: stop }));
    }
    return {};
  },
};

export const redefineCheckpointsRun: RunDefinition<'redefine-checkpoints'> = {
  steps: [validate, importRows, tellTexts],
  result: context => ({
    validateOnly: context.request.validateOnly,
    checkpoints: planned(context).map(({ id, name, pointInTimeMs, inconsistent }) => ({
      id,
      name,
      pointInTime: new Date(pointInTimeMs).toISOString(),
      inconsistent,
    })),
    missing: context.output('validate', validated).missing,
  }),
  withdraw: async () => {},
};

const planned = (context: Context): Redefined[] => context.output('validate', validated).checkpoints;

async function allCheckpoints(catalog: Context['catalog'], volumeId: string) {
  const rows = [];
  let cursor: string | undefined;
  do {
    const page = await catalog.checkpoints.list(volumeId, cursor === undefined ? {} : { cursor });
    rows.push(...page.items);
    cursor = page.nextCursor ?? undefined;
  } while (cursor !== undefined);
  return rows;
}
