// Changes the options of block nodes that are in use: all that are named in one call, or none.
import { isDeepStrictEqual } from 'node:util';
import { EngineError, type GraphNode } from '@tidemark/engine';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';
import type { Blockdev, PreparedReopen } from './blockdev-driver.ts';
import {
  type BlockdevOptions,
  type CommonOptions,
  decideCommon,
  inheritedOptions,
  ownOptions,
} from './options.ts';

/** A block node with its new options. */
interface Stage {
  readonly node: GraphNode;
  readonly blockdev: Blockdev;
  readonly options: Record<string, unknown>;
  readonly common: CommonOptions;
  readonly given: BlockdevOptions;
  /** By role; undefined: none any more. Roles that are missing keep theirs. */
  readonly children: ReadonlyMap<string, GraphNode | undefined>;
}

/**
 * Rejects with an EngineError in QEMU's words and everything as it was. Guests wait meanwhile, and jobs stand
 * still; inline children that say nothing of their own follow their parents.
 */
export async function reopenBlockNodes(list: readonly BlockdevOptions[], host: StorageDaemon): Promise<void> {
  const stages = new Map<GraphNode, Stage>();
  const found = list.map(options => ({ options, blockdev: findBlockdev(options, host) }));
  for (const { options, blockdev } of found) stage(blockdev, options, decideCommon(options), host, stages);
  const all = [...stages.values()];
  const prepared: PreparedReopen[] = [];
  await host.graph.change([...stages.keys()], {
    async begin() {
      for (const { blockdev } of all) await blockdev.definition.settle?.(blockdev);
    },
    apply(change) {
      for (const { node, common, children } of all) {
        change.setReadOnly(node, common.readOnly);
        change.setPolicy(node, {
          ignoreDiscard: common.discard === 'ignore',
          detectZeroes: common.detectZeroes,
        });
        for (const [role, child] of children) change.setChild(node, role, child);
      }
    },
    async prepare(change) {
      try {
        for (const { node, blockdev, options, common } of all) {
          const about = { blockdev, options, readOnly: common.readOnly, common, host };
          const ready = await blockdev.definition.reopen!(about);
          prepared.push(ready);
          if (ready.driver !== undefined) change.setDriver(node, ready.driver);
        }
      } catch (error) {
        for (const ready of prepared) await ready.abort();
        throw error;
      }
    },
    commit() {
      for (const ready of prepared) ready.commit();
      for (const [index, { node, blockdev, options, common, given }] of all.entries()) {
        const driver = prepared[index]!.driver ?? blockdev.driver;
        host.blockdevs.set(node, { ...blockdev, driver, options, common, given });
      }
    },
  });
}

function findBlockdev(options: BlockdevOptions, { graph, blockdevs }: StorageDaemon): Blockdev | GraphNode {
  const name = options['node-name'];
  if (name === undefined) throw invalid('node-name not specified', 'Say which block node is to be changed.');
  const node = graph.find(name);
  if (node !== undefined) return blockdevs.get(node) ?? node;
  const hint = 'Look at the names of the block nodes there are.';
  throw new EngineError('not-found', `Failed to find node with node-name='${name}'`, { node: name, hint });
}

function stage(
  blockdev: Blockdev | GraphNode,
  given: BlockdevOptions,
  common: CommonOptions,
  host: StorageDaemon,
  stages: Map<GraphNode, Stage>,
): void {
  if (!('definition' in blockdev)) throw cannotReopen(blockdev);
  const { definition, node } = blockdev;
  if (definition.reopen === undefined) throw cannotReopen(node);
  if (given.driver !== definition.name) throw cannotChange('driver');
  if (common.forceShare !== blockdev.common.forceShare) throw cannotChange('force-share');
  const options = ownOptions(given);
  for (const key of definition.fixedOptions ?? []) {
    if (options[key] !== undefined && !isDeepStrictEqual(options[key], blockdev.options[key])) {
      throw cannotChange(key);
    }
  }
  const children = new Map<string, GraphNode | undefined>();
  for (const [key, { role }] of Object.entries(definition.children)) {
    const current = node.children.find(edge => edge.role === role)?.node;
    const next = stageChild({ key, role, current, reference: given[key], node, common, host, stages });
    if (next !== current) children.set(role, next);
  }
  stages.set(node, { node, blockdev, options, common, given, children });
}

interface ChildStage {
  readonly key: string;
  readonly role: string;
  readonly current: GraphNode | undefined;
  readonly reference: unknown;
  readonly node: GraphNode;
  readonly common: CommonOptions;
  readonly host: StorageDaemon;
  readonly stages: Map<GraphNode, Stage>;
}

/** Returns the child that there will be. */
function stageChild(about: ChildStage): GraphNode | undefined {
  const { key, role, current, reference, node, host } = about;
  if (reference === null) return undefined;
  if (reference === undefined) {
    if (current === undefined) return undefined;
    const hint = "Name the backing block node, or say 'null'.";
    throw invalid(`backing is missing for '${node.name}'`, hint);
  }
  if (typeof reference === 'string' && reference !== current?.name)
    return findChild(key, role, reference, host);
  const inline = typeof reference === 'object';
  const blockdev = current && host.blockdevs.get(current);
  if (blockdev === undefined || current?.owner !== 'parents') {
    if (inline) throw cannotChange(`${key}.driver`);
    return current;
  }
  const given = inline ? (reference as BlockdevOptions) : blockdev.given;
  const common = decideCommon(given, inheritedOptions(about.common, role));
  const follows =
    common.readOnly !== blockdev.common.readOnly || !isDeepStrictEqual(common.cache, blockdev.common.cache);
  if (inline || follows) {
    stage(blockdev, given, common, host, about.stages);
  }
  return current;
}

function findChild(key: string, role: string, name: string, { graph }: StorageDaemon): GraphNode {
  // Only these can be exchanged; the children of other drivers are theirs for good.
  if (key !== role || (role !== 'file' && role !== 'backing')) throw cannotChange(key);
  const child = graph.find(name);
  if (child !== undefined) return child;
  throw new EngineError('not-found', `Cannot find device='' nor node-name='${name}'`, { node: name });
}

function cannotReopen(node: GraphNode): EngineError {
  const text = `Block format '${node.driver}' used by node '${node.name}' does not support reopening files`;
  return new EngineError('unsupported', text, { node: node.name });
}

function cannotChange(option: string): EngineError {
  const hint = 'Leave it as it is, or make a new block node.';
  return invalid(`Cannot change the option '${option}'`, hint);
}

function invalid(text: string, hint: string): EngineError {
  return new EngineError('invalid-argument', text, { hint });
}
