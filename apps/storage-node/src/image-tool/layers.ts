// An image with those below it, each with the name that a user knows it by and with its file at hand.
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import {
  BlockGraph,
  type BlockNode,
  EngineError,
  FileNode,
  type GraphNode,
  hasQcow2Magic,
  IMAGE_CHAIN_DEPTH_MAX,
  PERMISSION,
  PERMISSIONS_ALL,
  type Qcow2Header,
  Qcow2Image,
  RawImage,
  readQcow2Header,
} from '@tidemark/engine';
import { errorText, ToolError } from './tool-error.ts';

export interface OpenLayersOptions {
  /** Default: what the first bytes say. */
  readonly format?: string | undefined;
  readonly writable?: boolean;
  /** Somebody else may use the image meanwhile. */
  readonly forceShare?: boolean;
  /** The image alone: what is below is not opened and reads as zeroes. */
  readonly alone?: boolean;
  /** Where the image's block node goes, so that it can share actions with those of others; default: a new one. */
  readonly graph?: BlockGraph;
  /** Exit code where it fails; default 1. */
  readonly exitCode?: number;
}

export interface Layer {
  /** As given, or as the image above names it, from the same place. */
  readonly name: string;
  readonly format: 'raw' | 'qcow2';
  /** The format was neither told nor in the image above. */
  readonly guessed: boolean;
  readonly file: FileNode;
  readonly header: Qcow2Header | undefined;
  /** The driver, where it is qcow2. */
  readonly image: Qcow2Image | undefined;
  /** The disk as seen from here. */
  readonly disk: BlockNode;
}

/** The topmost image, with the bitmaps that it keeps. */
export interface TopLayer extends Layer {
  readonly disk: GraphNode;
}

/** From the top down, at least one. */
export interface Layers {
  readonly top: TopLayer;
  readonly all: readonly Layer[];
  /** Writes all that is held back, and closes. */
  close(): Promise<void>;
}

type Found = Omit<Layer, 'disk' | 'image'>;

/** Rejects with a `ToolError` in qemu-img's words; nothing stays open then. */
export async function openLayers(name: string, options: OpenLayersOptions = {}): Promise<Layers> {
  const found: Found[] = [];
  try {
    await findLayers(found, name, options);
    const [first, ...below] = await assemble(found);
    const graph = options.graph ?? new BlockGraph();
    const disk = graph.add({ name: graph.freeName() }, () => first!.disk);
    const top = { ...first!, disk };
    const all = [top, ...below];
    return { top, all, close: () => closeAll(all) };
  } catch (error) {
    for (const { file } of found) await file.close().catch(() => undefined);
    throw new ToolError(`Could not open '${name}': ${errorText(error)}`, options.exitCode ?? 1);
  }
}

/** The image's file and format, without a driver over it. Rejects as `openLayers` does. */
export async function openFileOf(name: string, options: OpenLayersOptions = {}): Promise<Found> {
  const found: Found[] = [];
  try {
    await findLayers(found, name, { ...options, alone: true });
    return found[0]!;
  } catch (error) {
    for (const { file } of found) await file.close().catch(() => undefined);
    throw new ToolError(`Could not open '${name}': ${errorText(error)}`, options.exitCode ?? 1);
  }
}

async function findLayers(found: Found[], name: string, options: OpenLayersOptions): Promise<void> {
  const seen = new Set<string>();
  let next: Wanted | undefined = { name, format: options.format };
  while (next !== undefined) {
    const wanted: Wanted = next;
    try {
      next = await findLayer(found, wanted, { ...options, seen });
    } catch (error) {
      throw wanted.name !== name ? new Error(`Could not open backing file: ${errorText(error)}`) : error;
    }
  }
}

interface Wanted {
  readonly name: string;
  readonly format: string | undefined;
}

/** Adds it, and returns the one below. */
async function findLayer(
  found: Found[],
  { name, format }: Wanted,
  { seen, ...options }: OpenLayersOptions & { seen: Set<string> },
): Promise<Wanted | undefined> {
  const upper = found.at(-1);
  const readOnly = upper !== undefined || options.writable !== true;
  const layer = { name, guessed: format === undefined, format: 'raw' as const, header: undefined };
  const index = found.length;
  const file = await openFile(name, { readOnly, forceShare: options.forceShare ?? false });
  found.push({ ...layer, file });
  const real = await realpath(name);
  if (seen.has(real)) throw new Error(`Backing file '${name}' creates an infinite loop.`);
  if (index >= IMAGE_CHAIN_DEPTH_MAX) throw new Error(`More than ${IMAGE_CHAIN_DEPTH_MAX} images`);
  seen.add(real);
  const decided = await decideFormat(file, { name, format }, upper);
  const header = decided === 'qcow2' ? await readQcow2Header(file) : undefined;
  found[index] = { ...layer, file, format: decided, header };
  return options.alone === true ? undefined : backingOf(found[index]);
}

async function openFile(
  name: string,
  { readOnly, forceShare }: { readOnly: boolean; forceShare: boolean },
): Promise<FileNode> {
  let file: FileNode;
  try {
    file = await FileNode.open(name, { readOnly, locking: 'permissions', sharesAll: forceShare });
  } catch (error) {
    if (error instanceof EngineError && error.kind === 'unsupported') {
      throw new Error(`'file' driver requires '${name}' to be a regular file`);
    }
    throw new Error(`Could not open '${name}': ${errorText(error)}`);
  }
  try {
    const changes = PERMISSION.write | PERMISSION.resize;
    const uses = PERMISSION.consistentRead | (readOnly ? 0 : changes);
    file.setPermissions({ uses, shares: PERMISSIONS_ALL & ~changes });
    return file;
  } catch (error) {
    await file.close();
    throw new Error(`${errorText(error)}\nIs another process using the image [${name}]?`);
  }
}

/** What only the content suggests is good for the image that was named, never for one below. */
async function decideFormat(
  file: FileNode,
  { name, format }: { name: string; format: string | undefined },
  upper: Found | undefined,
): Promise<'raw' | 'qcow2'> {
  const marked = await hasQcow2Magic(file);
  if (format === 'raw') return 'raw';
  if (format === 'qcow2') {
    if (!marked) throw new EngineError('invalid-format', 'Image is not in qcow2 format');
    return 'qcow2';
  }
  if (format !== undefined) throw new EngineError('unsupported', `Unknown driver '${format}'`);
  if (upper !== undefined && marked) {
    const text = `'${upper.name}' does not say which format its backing file '${name}' has; say it with rebase -u -F`;
    throw new EngineError('invalid-format', text);
  }
  return marked ? 'qcow2' : 'raw';
}

/** `json:…`, `nbd://…`. */
const PROTOCOL_PREFIX = /^[a-z][a-z0-9+.-]*:/i;

function backingOf({ name, header }: Found): { name: string; format: string | undefined } | undefined {
  const backing = header?.backingPath;
  if (backing === undefined) return undefined;
  if (PROTOCOL_PREFIX.test(backing)) {
    throw new EngineError('unsupported', `'${name}' has the backing file '${backing}', which is not a path`);
  }
  return { name: beside(name, backing), format: header?.backingFormat };
}

/** A relative name starts at the folder of the image that has it. */
export function beside(image: string, name: string): string {
  if (path.isAbsolute(name) || PROTOCOL_PREFIX.test(name)) return name;
  return `${image.slice(0, image.lastIndexOf('/') + 1)}${name}`;
}

/** From the bottom up. */
async function assemble(found: readonly Found[]): Promise<Layer[]> {
  const layers: Layer[] = [];
  for (const layer of found.toReversed()) {
    const backing = layers[0]?.disk;
    const { header, file } = layer;
    const image =
      header &&
      (await Qcow2Image.open(file, {
        keepChildren: true,
        readOnly: file.readOnly,
        ...(backing === undefined ? { ignoreBacking: true } : { backing }),
      }));
    const disk = image ?? RawImage.open(file, { wholeSectors: true, keepChildren: true });
    layers.unshift({ ...layer, image, disk });
  }
  return layers;
}

async function closeAll(layers: readonly Layer[]): Promise<void> {
  try {
    for (const { disk } of layers) await disk.close();
  } finally {
    for (const { file } of layers) await file.close();
  }
}
