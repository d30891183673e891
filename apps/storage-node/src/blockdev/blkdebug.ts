// The `blkdebug` driver: a filter that fails requests by rules.
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import {
  BLKDEBUG_IO_TYPES,
  Blkdebug,
  EngineError,
  filterPermissions,
  type InjectErrorRule,
  type SetStateRule,
} from '@tidemark/engine';
import { z } from 'zod';
import { int64 } from '../qmp/arguments.ts';
import { defineDriver } from './blockdev-driver.ts';

/** QAPI `BlkdebugEvent`. Those that no layer here announces are taken and never come. */
const event = z.enum([
  'l1_update',
  'l1_grow_alloc_table',
  'l1_grow_write_table',
  'l1_grow_activate_table',
  'l2_load',
  'l2_update',
  'l2_update_compressed',
  'l2_alloc_cow_read',
  'l2_alloc_write',
  'read_aio',
  'read_backing_aio',
  'read_compressed',
  'write_aio',
  'write_compressed',
  'vmstate_load',
  'vmstate_save',
  'cow_read',
  'cow_write',
  'reftable_load',
  'reftable_grow',
  'reftable_update',
  'refblock_load',
  'refblock_update',
  'refblock_update_part',
  'refblock_alloc',
  'refblock_alloc_hookup',
  'refblock_alloc_write',
  'refblock_alloc_write_blocks',
  'refblock_alloc_write_table',
  'refblock_alloc_switch_table',
  'cluster_alloc',
  'cluster_alloc_bytes',
  'cluster_free',
  'flush_to_os',
  'flush_to_disk',
  'pwritev_rmw_head',
  'pwritev_rmw_after_head',
  'pwritev_rmw_tail',
  'pwritev_rmw_after_tail',
  'pwritev',
  'pwritev_zero',
  'pwritev_done',
  'empty_image_prepare',
  'l1_shrink_write_table',
  'l1_shrink_free_l2_clusters',
  'cor_write',
  'cluster_alloc_space',
  'none',
]);

const permission = z.enum(['consistent-read', 'write', 'write-unchanged', 'resize']);

const injectError = z.strictObject({
  event,
  state: int64.optional(),
  iotype: z.enum(BLKDEBUG_IO_TYPES).optional(),
  errno: int64.optional(),
  sector: int64.optional(),
  once: z.boolean().optional(),
  immediately: z.boolean().optional(),
});
const setState = z.strictObject({ event, state: int64.optional(), new_state: int64 });

/** EIO. */
const ERRNO_DEFAULT = 5;

export const blkdebugDriver = defineDriver({
  name: 'blkdebug',
  options: z.object({
    config: z.string().optional(),
    align: int64.optional(),
    'max-transfer': int64.optional(),
    'opt-write-zero': int64.optional(),
    'max-write-zero': int64.optional(),
    'opt-discard': int64.optional(),
    'max-discard': int64.optional(),
    'inject-error': z.array(injectError).optional(),
    'set-state': z.array(setState).optional(),
    'take-child-perms': z.array(permission).optional(),
    'unshare-child-perms': z.array(permission).optional(),
  }),
  children: { image: { role: 'image', required: true } },
  permissions: filterPermissions,
  protocol: true,
  filename: ({ config, ...more }, image) =>
    Object.keys(more).length === 0 ? `blkdebug:${config ?? ''}:${image}` : undefined,
  strongOptions: ['config', 'align', 'inject-error', 'set-state'],
  reopen: () => ({ commit() {}, abort() {} }),
  async open({ options, children }) {
    const { align } = options;
    if (align !== undefined) assertAlignment(align);
    for (const limit of ['max-transfer', 'max-write-zero', 'max-discard'] as const) {
      const value = options[limit];
      if (value !== undefined && value % (align ?? 1) !== 0) throw cannotMeet(limit, value);
    }
    return new Blkdebug(children.image!, {
      ...(align === undefined ? {} : { alignBytes: align }),
      injectError: (options['inject-error'] ?? []).map(toInjectError),
      setState: (options['set-state'] ?? []).map(toSetState),
    });
  },
});

function assertAlignment(align: number): void {
  const isPowerOfTwo = align > 0 && Number.isInteger(Math.log2(align));
  if (!isPowerOfTwo) throw cannotMeet('align', align);
}

function cannotMeet(what: string, value: number): EngineError {
  return new EngineError('invalid-argument', `Cannot meet constraints with ${what} ${value}`);
}

function toInjectError(rule: z.output<typeof injectError>): InjectErrorRule {
  const { event: name, state, iotype, sector } = rule;
  return {
    ...(name === 'none' ? {} : { event: name }),
    ...(state === undefined ? {} : { state }),
    ...(iotype === undefined ? {} : { iotype }),
    // QEMU takes -1 for any sector.
    ...(sector === undefined || sector < 0 ? {} : { sector }),
    ...errnoOf(rule.errno ?? ERRNO_DEFAULT),
    once: rule.once ?? false,
  };
}

/** What is no number of an error fails nothing, as in QEMU. */
function errnoOf(number: number): { errno?: string } {
  if (number <= 0) return {};
  // The runtime's own list lacks some, EDQUOT for one.
  const listed = Object.entries(constants.errno).find(([, value]) => value === number)?.[0];
  const isKnown = number <= Math.max(...Object.values(constants.errno));
  const name = isKnown ? getSystemErrorName(-number) : '';
  return { errno: /^E[A-Z0-9]+$/.test(name) ? name : (listed ?? `E${number}`) };
}

function toSetState(rule: z.output<typeof setState>): SetStateRule {
  const { event: name, state, new_state: newState } = rule;
  return { event: name, newState, ...(state === undefined ? {} : { state }) };
}
