// Opens block nodes for writing or read-only again, with the files that they were opened with.
import { EngineError, type GraphNode } from '@tidemark/engine';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';
import type { Blockdev, PreparedReopen } from './blockdev-driver.ts';
import { type CommonOptions, decideCommon, inheritedOptions } from './options.ts';

interface Turn {
  readonly blockdev: Blockdev;
  readonly common: CommonOptions;
}

/**
 * The node and those of its files that were opened with it and say nothing of their own are reopened read-only. Stays
 * as it is where anybody still writes to it or its driver cannot.
 */
export async function turnReadOnly(node: GraphNode, host: StorageDaemon): Promise<void> {
  const blockdev = host.blockdevs.get(node);
  if (blockdev === undefined || blockdev.common.readOnly) return;
  const turns = turnsOf({ blockdev, common: { ...blockdev.common, readOnly: true } }, host);
  await reopenAll(turns, host).catch(() => undefined);
}

/**
 * The node and those of its files that were opened with it and say nothing of their own. Rejects with all as it was
 * where somebody writes to what is to be read-only, or what is to be written cannot be.
 */
export async function setReadOnly(node: GraphNode, readOnly: boolean, host: StorageDaemon): Promise<void> {
  const blockdev = host.blockdevs.get(node);
  if (blockdev?.definition.reopen === undefined) {
    const text = `Block format '${node.driver}' used by node '${node.name}' does not support reopening files`;
    throw new EngineError('unsupported', text, { node: node.name });
  }
  await reopenAll(turnsOf({ blockdev, common: { ...blockdev.common, readOnly } }, host), host);
}

function turnsOf(turn: Turn, host: StorageDaemon): Turn[] {
  const turns = [turn];
  for (const { role, node } of turn.blockdev.node.children) {
    const below = role !== 'backing' && node.owner === 'parents' ? host.blockdevs.get(node) : undefined;
    if (below === undefined) continue;
    const common = decideCommon(below.given, inheritedOptions(turn.common, role));
    if (common.readOnly !== below.common.readOnly) turns.push(...turnsOf({ blockdev: below, common }, host));
  }
  return turns;
}

async function reopenAll(turns: readonly Turn[], host: StorageDaemon): Promise<void> {
  const prepared: (PreparedReopen | undefined)[] = [];
  const nodes = turns.map(({ blockdev }) => blockdev.node);
  await host.graph.change(nodes, {
    async begin() {
      for (const { blockdev } of turns) await blockdev.definition.settle?.(blockdev);
    },
    apply(change) {
      for (const { blockdev, common } of turns) change.setReadOnly(blockdev.node, common.readOnly);
    },
    async prepare(change) {
      try {
        for (const { blockdev, common } of turns) {
          const { definition, node, options } = blockdev;
          const { readOnly } = common;
          const ready = await definition.reopen?.({ blockdev, options, readOnly, common, host });
          prepared.push(ready);
          if (ready?.driver !== undefined) change.setDriver(node, ready.driver);
        }
      } catch (error) {
        for (const ready of prepared) await ready?.abort();
        throw error;
      }
    },
    commit() {
      for (const [index, { blockdev, common }] of turns.entries()) {
        prepared[index]?.commit();
        const driver = prepared[index]?.driver ?? blockdev.driver;
        host.blockdevs.set(blockdev.node, { ...blockdev, driver, common });
      }
    },
  });
}
