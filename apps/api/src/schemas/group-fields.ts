// What is said of groups wherever they are asked for: by themselves, and by policies for their firings.
import { z } from 'zod';
import {
  FENCE_LIMIT_MAX_MS,
  FENCE_LIMIT_MIN_MS,
  HOOK_TIMEOUT_DEFAULT_MS,
  HOOK_TIMEOUT_MAX_MS,
  HOOKS_MAX,
} from '../limits.ts';
import { ref } from './common.ts';

export const completionField = z.enum(['individual', 'grouped']).meta({
  description:
    'Of backups. individual: one that fails does not touch the others. grouped: one that fails takes all with it; ' +
    'they are published when all have been copied and checked, or not at all.',
});

const timeoutMs = z
  .int()
  .min(1)
  .max(HOOK_TIMEOUT_MAX_MS)
  .default(HOOK_TIMEOUT_DEFAULT_MS)
  .meta({ description: `Of each call; ${HOOK_TIMEOUT_DEFAULT_MS} by default.` });

const hookSchema = z
  .union([
    z.strictObject({
      webhook: z
        .url()
        .max(2_048)
        .meta({
          description:
            'Called with POST and `{"phase": "freeze" or "thaw", "group": {id, name}, "volumes": [{id, name}]}`; any ' +
            'answer but 2xx is a failure. http or https, without user and password.',
        }),
      timeoutMs,
    }),
    z.strictObject({
      command: z
        .string()
        .min(1)
        .max(64)
        .meta({ description: 'A name of the allow list of the storage node (its setting TIDEMARK_HOOKS).' }),
      storageNode: ref('storage node that runs it'),
      timeoutMs,
    }),
  ])
  .meta({ id: 'GroupHook' });

export const fenceLimitField = z.int().min(FENCE_LIMIT_MIN_MS).max(FENCE_LIMIT_MAX_MS).meta({
  description:
    'How long guests may wait at most; then their storage node lets them go on, and the group fails as a whole.',
});
export const hooksField = z
  .array(hookSchema)
  .max(HOOKS_MAX)
  .meta({
    description:
      'Called before the fence (freeze), in this order, and after it (thaw), whatever comes of the group; a thaw may ' +
      'come without a freeze before it, and more than once.',
  });
