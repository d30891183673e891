// Commands on block nodes: adding, removing, looking.
import { EngineError } from '@tidemark/engine';
import { z } from 'zod';
import { describeBlockNodes } from '../../blockdev/describe-block-nodes.ts';
import { openBlockNode } from '../../blockdev/open-block-node.ts';
import { blockdevOptions } from '../../blockdev/options.ts';
import { reopenBlockNodes } from '../../blockdev/reopen-block-nodes.ts';
import { int64 } from '../arguments.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import { genericError } from '../qmp-error.ts';
import { systemErrorText } from '../system-error-text.ts';

function isSystemError(error: unknown): boolean {
  return error instanceof EngineError && error.kind === 'io' && error.context.errno !== undefined;
}

export const blockNodeCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'blockdev-add',
    arguments: blockdevOptions,
    async run(options, daemon) {
      await openBlockNode(options, daemon);
    },
  }),
  defineCommand({
    name: 'blockdev-del',
    arguments: z.strictObject({ 'node-name': z.string() }),
    async run({ 'node-name': name }, { graph }) {
      const node = graph.find(name);
      if (node === undefined) throw genericError(`Failed to find node with node-name='${name}'`);
      node.assertUnused({ byName: true });
      await graph.remove(name);
    },
  }),
  defineCommand({
    name: 'blockdev-reopen',
    arguments: z.strictObject({ options: z.array(blockdevOptions) }),
    run: ({ options }, daemon) => reopenBlockNodes(options, daemon),
  }),
  defineCommand({
    name: 'block_resize',
    arguments: z.strictObject({
      device: z.string().optional(),
      'node-name': z.string().optional(),
      size: int64,
    }),
    async run({ device = '', 'node-name': name = '', size }, { graph }) {
      // No block node here belongs to a device: only node names are found.
      const node = graph.find(name);
      if (node === undefined) throw genericError(`Cannot find device='${device}' nor node-name='${name}'`);
      if (size < 0) throw genericError("Parameter 'size' expects a >0 size");
      const stoodOn = [...node.parents].some(({ role }) => role === 'backing');
      if (node.blockers.size > 0 || stoodOn) throw genericError("Device '(null)' is in use");
      await graph.resize(name, size).catch(error => {
        throw isSystemError(error) ? genericError(`Could not resize file: ${systemErrorText(error)}`) : error;
      });
    },
  }),
  defineCommand({
    name: 'query-named-block-nodes',
    arguments: z.strictObject({ flat: z.boolean().optional() }),
    run: ({ flat }, daemon) => describeBlockNodes(daemon, { flat: flat ?? false }),
  }),
  defineCommand({
    name: 'query-block',
    arguments: z.strictObject({}),
    // Of devices of guests, which there are none: as in QEMU's storage daemon, block nodes are asked for by name.
    run: () => [],
  }),
];
