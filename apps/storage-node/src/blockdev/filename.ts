// The names by which block nodes' images are called in answers.
import type { GraphNode } from '@tidemark/engine';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';

/**
 * The path of the image's file, or, where a path does not say it all, the options as `json:{…}`. Empty where
 * there is neither.
 */
export function filenameOf(node: GraphNode, { blockdevs }: Pick<StorageDaemon, 'blockdevs'>): string {
  const blockdev = blockdevs.get(node);
  const file = node.children.find(edge => edge.role === 'file' || edge.role === 'image')?.node;
  const below = file === undefined ? undefined : filenameOf(file, { blockdevs });
  if (blockdev === undefined) return below ?? '';
  const { definition, options } = blockdev;
  if (definition.filename !== undefined) return definition.filename(options, below);
  const strong = (definition.strongOptions ?? []).filter(key => options[key] !== undefined);
  if (strong.length === 0) return below ?? '';
  return `json:${spacedJson(fullOptions(node, { blockdevs }))}`;
}

/** The options that make the image what it is, with those of all children. */
function fullOptions(node: GraphNode, { blockdevs }: Pick<StorageDaemon, 'blockdevs'>): object {
  const blockdev = blockdevs.get(node);
  const strong = blockdev?.definition.strongOptions ?? [];
  const options = Object.entries(blockdev?.options ?? {});
  return {
    ...Object.fromEntries(options.filter(([key]) => strong.includes(key))),
    driver: node.driver,
    ...(node.driver === 'file' && { filename: blockdev?.options.filename }),
    ...Object.fromEntries(node.children.map(edge => [edge.role, fullOptions(edge.node, { blockdevs })])),
  };
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
