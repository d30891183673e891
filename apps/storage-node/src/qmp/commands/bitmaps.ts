// The commands on dirty bitmaps. Each is also an action of a transaction, with the same arguments.
import {
  addBitmap,
  applyAction,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  findBitmap,
  type InstantAction,
  mergeBitmaps,
  removeBitmap,
} from '@tidemark/engine';
import { z } from 'zod';
import { alternate, uint32 } from '../arguments.ts';
import { defineCommand, type QmpCommand } from '../command.ts';

const reference = z.strictObject({ node: z.string(), name: z.string() });

const addArguments = z.strictObject({
  node: z.string(),
  name: z.string(),
  granularity: uint32.optional(),
  persistent: z.boolean().optional(),
  disabled: z.boolean().optional(),
});

const mergeArguments = z.strictObject({
  node: z.string(),
  target: z.string(),
  /** Names on the target's own block node, or bitmaps of others. */
  bitmaps: z.array(alternate('BlockDirtyBitmapOrStr', [z.string(), reference])),
});

/** What a transaction needs of an action: QAPI's name, the shape of `data`, and what is to be done. */
export interface ActionDefinition<Schema extends z.ZodType = z.ZodType> {
  readonly type: string;
  readonly data: Schema;
  make(data: z.output<Schema>): InstantAction;
}

function defineAction<Schema extends z.ZodType>(action: ActionDefinition<Schema>): ActionDefinition {
  return action as unknown as ActionDefinition;
}

export const bitmapActions: readonly ActionDefinition[] = [
  defineAction({
    type: 'block-dirty-bitmap-add',
    data: addArguments,
    make: ({ node, name, granularity, persistent, disabled }) =>
      addBitmap({
        node,
        name,
        ...(granularity === undefined ? {} : { granularityBytes: granularity }),
        persistent: persistent ?? false,
        recording: disabled !== true,
      }),
  }),
  defineAction({ type: 'block-dirty-bitmap-remove', data: reference, make: removeBitmap }),
  defineAction({ type: 'block-dirty-bitmap-clear', data: reference, make: clearBitmap }),
  defineAction({ type: 'block-dirty-bitmap-enable', data: reference, make: enableBitmap }),
  defineAction({ type: 'block-dirty-bitmap-disable', data: reference, make: disableBitmap }),
  defineAction({
    type: 'block-dirty-bitmap-merge',
    data: mergeArguments,
    make: ({ node, target, bitmaps }) =>
      mergeBitmaps(
        { node, name: target },
        bitmaps.map(source => (typeof source === 'string' ? { node, name: source } : source)),
      ),
  }),
];

export const bitmapCommands: readonly QmpCommand[] = [
  ...bitmapActions.map(({ type, data, make }) =>
    defineCommand({
      name: type,
      arguments: data,
      // A transaction that is being prepared has looked at the bitmaps already.
      run: (args, { graph }) => graph.inTurn(() => applyAction(graph, make(args))),
    }),
  ),
  defineCommand({
    name: 'x-debug-block-dirty-bitmap-sha256',
    arguments: reference,
    run: (args, daemon) => ({ sha256: findBitmap(daemon.graph, args).bits.sha256() }),
  }),
];
