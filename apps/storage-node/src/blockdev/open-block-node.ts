// Opens a block node by its options, with the children that the options describe. What fails leaves nothing
// behind: neither files nor block nodes nor permissions.
import {
  assertNodeName,
  type Edge,
  EngineError,
  GRAPH_DEPTH_MAX,
  type GraphNode,
  type NodeOwner,
} from '@tidemark/engine';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';
import type { Blockdev, BlockdevDriver } from './blockdev-driver.ts';
import { blockdevDrivers } from './drivers.ts';
import {
  type BlockdevOptions,
  type CommonOptions,
  decideCommon,
  inheritedOptions,
  ownOptions,
} from './options.ts';

/**
 * For `blockdev-add` and its like: the node stays until somebody removes it by name. Rejects with an EngineError
 * in QEMU's words.
 */
export function openBlockNode(options: BlockdevOptions, host: StorageDaemon): Promise<GraphNode> {
  if (options['node-name'] === undefined) {
    const hint = 'Give the block node a name.';
    throw new EngineError('invalid-argument', "'node-name' must be specified for the root node", { hint });
  }
  return open(options, host, { owner: 'user', common: decideCommon(options), depth: 0 });
}

/** For a node that goes with its last user. */
export function openChildNode(
  options: BlockdevOptions,
  host: StorageDaemon,
  parent: { common: CommonOptions; role: string; depth: number },
): Promise<GraphNode> {
  if (parent.depth >= GRAPH_DEPTH_MAX) {
    const hint = 'Look for an image that is its own backing image.';
    throw new EngineError('unsupported', 'Too many images below one another', { hint });
  }
  const common = decideCommon(options, inheritedOptions(parent.common, parent.role));
  return open(options, host, { owner: 'parents', common, depth: parent.depth + 1 });
}

interface Opening {
  readonly owner: NodeOwner;
  readonly common: CommonOptions;
  /** How many block nodes are being opened above. */
  readonly depth: number;
}

async function open(options: BlockdevOptions, host: StorageDaemon, how: Opening): Promise<GraphNode> {
  const definition = blockdevDrivers.get(options.driver)!;
  const { common, owner, depth } = how;
  assertCommon(common);
  const given = options['node-name'];
  const name = given ?? host.graph.freeName();
  const made: GraphNode[] = [];
  try {
    const children = await openChildren(definition, options, host, { common, depth, made });
    if (given !== undefined) assertNodeName(given);
    const own = ownOptions(options);
    let blockdev: Blockdev | undefined;
    const node = await host.graph.open(
      {
        name,
        owner,
        children,
        permissions: definition.permissionsFor?.(own) ?? definition.permissions,
        readOnly: common.readOnly || !common.autoReadOnly ? common.readOnly : undefined,
        forceShare: common.forceShare,
        ignoreDiscard: common.discard === 'ignore',
        detectZeroes: common.detectZeroes,
      },
      async opening => {
        const openChild = async (role: string, reference: string | BlockdevOptions): Promise<Edge> => {
          if (typeof reference === 'string') return opening.addChild(role, reference);
          const child = await openChildNode(reference, host, { common, role, depth });
          made.push(child);
          return opening.addChild(role, child.name);
        };
        const { readOnly } = common;
        const about = { common, host, opening, openChild, readOnly, nodeName: name };
        const driver = await definition.open({
          ...about,
          options: withReferences(own, options, definition),
          children: opening.children,
        });
        blockdev = { node: opening.node, definition, driver, options: own, common, given: options };
        return driver;
      },
    );
    host.blockdevs.set(node, blockdev!);
    return node;
  } catch (error) {
    for (const node of made.reverse()) await host.graph.release(node).catch(() => undefined);
    throw error;
  }
}

/** Drivers that open a child by themselves get its option, too. */
function withReferences(
  own: Record<string, unknown>,
  options: BlockdevOptions,
  { children }: BlockdevDriver,
): Record<string, unknown> {
  const theirs = Object.entries(children).filter(([key, child]) => child.openedByDriver && key in options);
  return { ...own, ...Object.fromEntries(theirs.map(([key]) => [key, options[key]])) };
}

/** Returns role to name; block nodes that were opened here are added to `made`. */
async function openChildren(
  definition: BlockdevDriver,
  options: BlockdevOptions,
  host: StorageDaemon,
  how: { common: CommonOptions; depth: number; made: GraphNode[] },
): Promise<Record<string, string>> {
  const names: Record<string, string> = {};
  for (const [key, { role, openedByDriver }] of Object.entries(definition.children)) {
    const reference = options[key] as string | BlockdevOptions | null | undefined;
    if (reference === undefined || reference === null || openedByDriver) continue;
    if (typeof reference === 'string') names[role] = host.graph.get(reference).name;
    else {
      const node = await openChildNode(reference, host, { ...how, role });
      how.made.push(node);
      names[role] = node.name;
    }
  }
  return names;
}

/** Throws kind `invalid-argument` where two options do not go together. */
function assertCommon({ forceShare, readOnly, detectZeroes, discard }: CommonOptions): void {
  if (forceShare && !readOnly) {
    const text = 'force-share=on can only be used with read-only images';
    throw new EngineError('invalid-argument', text, { hint: "Add 'read-only': true." });
  }
  if (detectZeroes === 'unmap' && discard !== 'unmap') {
    const text = 'setting detect-zeroes to unmap is not allowed without setting discard operation to unmap';
    throw new EngineError('invalid-argument', text, { hint: "Add 'discard': 'unmap'." });
  }
}
