// The names by which block nodes' images are called in answers.
import { childOf, type GraphNode, isImplicit } from '@tidemark/engine';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';

type Blockdevs = Pick<StorageDaemon, 'blockdevs'>;

/** The order in which QEMU writes the members of a `json:` file name. */
const KEY_ORDER = ['read-zeroes', 'offset', 'throttle-group', 'backing', 'image', 'driver', 'size'];
const KEYS_LAST = ['file', 'filename', 'target'];

/**
 * The path of the image's file, or, where a path does not say it all, the options as `json:{…}`. Empty where
 * there is neither.
 */
export function filenameOf(node: GraphNode, daemon: Blockdevs): string {
  const blockdev = daemon.blockdevs.get(node);
  const file = node.children.find(edge => edge.role === 'file' || edge.role === 'image')?.node;
  const below = file === undefined ? undefined : filenameOf(file, daemon);
  if (blockdev === undefined) return below ?? '';
  const { definition, options } = blockdev;
  const own = definition.filename?.(options, below);
  if (own !== undefined) return own;
  if (below !== undefined && saysItAll(node, file!, daemon)) return below;
  return `json:${spacedJson(fullOptions(node, daemon))}`;
}

/** Whether the name of its file is enough to open the node as it is. */
function saysItAll(node: GraphNode, file: GraphNode, daemon: Blockdevs): boolean {
  const { definition, options } = daemon.blockdevs.get(node)!;
  if (daemon.blockdevs.get(file)?.definition.protocol !== true) return false;
  if ((definition.strongOptions ?? []).some(key => options[key] !== undefined)) return false;
  return !filenameOf(file, daemon).startsWith('json:') && !hasOtherBacking(node, daemon);
}

/** Whether its backing image is another one than the image itself names. */
function hasOtherBacking(node: GraphNode, daemon: Blockdevs): boolean {
  const blockdev = daemon.blockdevs.get(node)!;
  const named = blockdev.definition.backingName?.(blockdev);
  const backing = node.children.find(edge => edge.role === 'backing')?.node;
  if (backing === undefined) return named !== undefined;
  return blockdev.given.backing !== undefined && filenameOf(backing, daemon) !== named;
}

/** The options that make the image what it is, with those of all children. */
function fullOptions(node: GraphNode, daemon: Blockdevs): object {
  if (isImplicit(node)) return fullOptions(childOf(node, 'file')!, daemon);
  const blockdev = daemon.blockdevs.get(node);
  const { definition, options = {} } = blockdev ?? {};
  const members: Record<string, unknown> = { driver: node.driver };
  for (const key of definition?.strongOptions ?? []) {
    if (options[key] !== undefined) members[key] = options[key];
  }
  for (const { role, node: child } of node.children) {
    if (role !== 'backing') members[role] = fullOptions(child, daemon);
  }
  if (blockdev !== undefined && hasOtherBacking(node, daemon)) {
    const backing = node.children.find(edge => edge.role === 'backing')?.node;
    members.backing = backing === undefined ? null : fullOptions(backing, daemon);
  }
  return Object.fromEntries(Object.entries(members).sort(([one], [other]) => rank(one) - rank(other)));
}

function rank(key: string): number {
  const early = KEY_ORDER.indexOf(key);
  if (early >= 0) return early;
  return KEY_ORDER.length + 1 + KEYS_LAST.indexOf(key);
}

/** With a blank after each comma and colon, as QEMU writes JSON. */
function spacedJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spacedJson).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(
    ([key, member]) => `${JSON.stringify(key)}: ${spacedJson(member)}`,
  );
  return `{${members.join(', ')}}`;
}
