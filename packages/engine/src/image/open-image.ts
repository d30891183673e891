// Opens an image file with all the images under it, as their headers name them.
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { EngineError, fromSystemError } from '../errors.ts';
import { IMAGE_CHAIN_CACHE_BYTES_MAX, IMAGE_CHAIN_DEPTH_MAX, QCOW2_L2_CACHE_BYTES_MAX } from '../limits.ts';
import type { BlockNode } from '../node/block-node.ts';
import { FileNode } from './file-node.ts';
import { hasQcow2Magic, type Qcow2Header, readQcow2Header } from './qcow2/header.ts';
import { Qcow2Image } from './qcow2/qcow2-image.ts';
import { RawImage } from './raw-image.ts';

export type ImageFormat = 'raw' | 'qcow2';

export interface OpenImageOptions {
  /**
   * Without it the file's first bytes decide. A guest can write those on a raw disk: name the format of
   * every image that a guest has written to.
   */
  format?: ImageFormat;
  /** Default false. Images below the first are always opened read-only. */
  readOnly?: boolean;
}

/** A file of the chain, opened, with its header where it is qcow2. */
interface Layer {
  path: string;
  file: FileNode;
  header: Qcow2Header | undefined;
}

/** Of chains that change while they are opened: between two attempts a whole merge would have to end. */
const CHAIN_OPEN_ATTEMPTS = 3;

/** `file.ts`-style prefixes such as `nbd://` or `json:`: not a path on this machine. */
const PROTOCOL_PREFIX = /^[a-z][a-z0-9+.-]*:/i;

/**
 * Opens the image and, read-only, every image under it. Closing the returned node closes all. Rejects
 * with kind `not-found`, `busy`, `invalid-format` (a loop, a chain too deep, a backing format that is
 * not named), `unsupported`, `corrupt` or `io`, naming the file; nothing stays open then.
 */
export async function openImage(imagePath: string, options: OpenImageOptions = {}): Promise<BlockNode> {
  for (let attempt = 1; ; attempt++) {
    const layers: Layer[] = [];
    try {
      await openLayers(layers, imagePath, options);
      return await assemble(layers);
    } catch (error) {
      for (const layer of layers) await layer.file.close().catch(() => undefined);
      // An image may have been merged into the one below, and taken its place, after its header was read.
      const lostBelow = error instanceof EngineError && error.kind === 'not-found' && layers.length > 0;
      if (!lostBelow || attempt === CHAIN_OPEN_ATTEMPTS) throw error;
    }
  }
}

/** Fills `layers` from the top down. */
async function openLayers(layers: Layer[], imagePath: string, options: OpenImageOptions): Promise<void> {
  let next: { path: string; format: string | undefined } | undefined = {
    path: imagePath,
    format: options.format,
  };
  const seen = new Set<string>();
  while (next !== undefined) {
    const upper = layers.at(-1);
    const real = await resolveReal(next.path, upper);
    if (seen.has(real))
      throw chainError('invalid-format', `${real} is its own backing image, through ${upper?.path}`, real);
    if (layers.length >= IMAGE_CHAIN_DEPTH_MAX) {
      throw chainError(
        'invalid-format',
        `${imagePath} has more than ${IMAGE_CHAIN_DEPTH_MAX} images under it`,
        real,
      );
    }
    seen.add(real);
    const file = await FileNode.open(real, { readOnly: upper !== undefined || (options.readOnly ?? false) });
    const layer: Layer = { path: real, file, header: undefined };
    layers.push(layer);
    const format = await decideFormat(layer, next.format, upper);
    if (format === 'qcow2') layer.header = await named(real, () => readQcow2Header(file));
    next = backingOf(layer);
  }
}

async function resolveReal(file: string, upper: Layer | undefined): Promise<string> {
  try {
    return await realpath(file);
  } catch (error) {
    const wrapped = fromSystemError(error, { op: 'open', path: file });
    if (upper === undefined) throw wrapped;
    throw new EngineError(
      wrapped.kind,
      `backing image ${file} of ${upper.path} cannot be opened: ${wrapped.message}`,
      wrapped.context,
      error,
    );
  }
}

/** A format that only the content suggests is good for the first image, never for one that was named without. */
async function decideFormat(
  layer: Layer,
  format: string | undefined,
  upper: Layer | undefined,
): Promise<ImageFormat> {
  if (format === 'raw' || format === 'qcow2') return format;
  if (format !== undefined) {
    throw chainError(
      'unsupported',
      `${layer.path} is to be opened as ${format}; only raw and qcow2 are supported`,
      layer.path,
    );
  }
  const looksLikeQcow2 = await hasQcow2Magic(layer.file);
  if (upper !== undefined && looksLikeQcow2) {
    throw chainError(
      'invalid-format',
      `${upper.path} does not name the format of its backing image ${layer.path}, which looks like qcow2; ` +
        'state it with qemu-img rebase -u -F',
      layer.path,
    );
  }
  return looksLikeQcow2 ? 'qcow2' : 'raw';
}

function backingOf(layer: Layer): { path: string; format: string | undefined } | undefined {
  const name = layer.header?.backingPath;
  if (name === undefined) return undefined;
  if (PROTOCOL_PREFIX.test(name)) {
    throw chainError(
      'unsupported',
      `${layer.path} has the backing image ${name}, which is not a file's path`,
      layer.path,
    );
  }
  return { path: path.resolve(path.dirname(layer.path), name), format: layer.header?.backingFormat };
}

/** From the bottom up. Failing, it leaves the files to the caller, who has them all. */
async function assemble(layers: Layer[]): Promise<BlockNode> {
  const l2CacheBytes = Math.min(QCOW2_L2_CACHE_BYTES_MAX, IMAGE_CHAIN_CACHE_BYTES_MAX / layers.length);
  let below: BlockNode | undefined;
  for (const layer of [...layers].reverse()) {
    const backing = below;
    below =
      layer.header === undefined
        ? RawImage.open(layer.file)
        : await named(layer.path, () =>
            Qcow2Image.open(layer.file, backing === undefined ? { l2CacheBytes } : { l2CacheBytes, backing }),
          );
  }
  return below!;
}

/** Adds the file's path to errors of what was read from it. */
async function named<T>(file: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    if (!(error instanceof EngineError) || error.context.path !== undefined) throw error;
    throw new EngineError(error.kind, `${file}: ${error.message}`, { ...error.context, path: file }, error);
  }
}

function chainError(kind: 'invalid-format' | 'unsupported', message: string, file: string): EngineError {
  return new EngineError(kind, message, { op: 'open', path: file });
}
