// The options with which an image is made: `-o cluster_size=64k,…`, checked and made into what the engine wants.
import { type CreateQcow2Options, isPowerOfTwo } from '@tidemark/engine';
import { parseSize } from './sizes.ts';
import { ToolError } from './tool-error.ts';

export type TargetFormat = 'raw' | 'qcow2';
export type ImageOptions = Map<string, string>;

const KNOWN: Readonly<Record<TargetFormat, readonly string[]>> = {
  raw: ['size', 'preallocation', 'nocow', 'extent_size_hint'],
  qcow2: [
    'size',
    'compat',
    'backing_file',
    'backing_fmt',
    'cluster_size',
    'preallocation',
    'lazy_refcounts',
    'refcount_bits',
    'compression_type',
    'extended_l2',
    'nocow',
    'extent_size_hint',
  ],
};

/** Whose form is looked at before anything else. */
const SWITCHES = ['lazy_refcounts', 'extended_l2', 'nocow'];
const SIZES = ['size', 'cluster_size', 'extent_size_hint'];

const PREALLOCATIONS: Readonly<Record<TargetFormat, readonly string[]>> = {
  raw: ['off', 'falloc', 'full'],
  qcow2: ['off', 'metadata', 'falloc', 'full'],
};

export function targetFormat(name: string): TargetFormat {
  if (name === 'raw' || name === 'qcow2') return name;
  throw new ToolError(`Unknown file format '${name}'`);
}

/** Throws for options that the format does not have, or that are no switch or size where they should be. */
export function assertKnown(options: ImageOptions, format: TargetFormat): void {
  for (const key of options.keys()) {
    if (!KNOWN[format].includes(key)) throw new ToolError(`Invalid parameter '${key}'`);
  }
  for (const key of SWITCHES) switchOption(options, key);
  for (const key of SIZES) sizeOption(options, key, 0);
}

export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full';

export function preallocationOf(options: ImageOptions, format: TargetFormat): Preallocation {
  const mode = options.get('preallocation') ?? 'off';
  if (!PREALLOCATIONS.qcow2.includes(mode)) {
    throw new ToolError(`Parameter 'preallocation' does not accept value '${mode}'`);
  }
  if (!PREALLOCATIONS[format].includes(mode)) throw new ToolError(`Unsupported preallocation mode: ${mode}`);
  return mode as Preallocation;
}

/** Without size and backing image. */
export function qcow2Options(options: ImageOptions): Omit<CreateQcow2Options, 'sizeBytes' | 'backing'> {
  const version = versionOf(options.get('compat') ?? '1.1');
  const clusterBytes = sizeOption(options, 'cluster_size', 65_536);
  if (!isPowerOfTwo(clusterBytes) || clusterBytes < 512 || clusterBytes > 2 ** 21) {
    throw new ToolError('Cluster size must be a power of two between 512 and 2048k');
  }
  const refcountBits = sizeOption(options, 'refcount_bits', 16);
  if (!isPowerOfTwo(refcountBits) || refcountBits > 64) {
    throw new ToolError('Refcount width must be a power of two and may not exceed 64 bits');
  }
  const lazyRefcounts = switchOption(options, 'lazy_refcounts');
  const compressionType = options.get('compression_type') ?? 'zlib';
  if (compressionType !== 'zlib' && compressionType !== 'zstd') {
    throw new ToolError(`Parameter 'compression-type' does not accept value '${compressionType}'`);
  }
  if (switchOption(options, 'extended_l2')) {
    throw new ToolError('Images with extended L2 entries cannot be made here');
  }
  const made = { version, clusterBytes, refcountBits, lazyRefcounts, compressionType } as const;
  if (version === 2) assertOldEnough(made);
  return { ...made, preallocation: preallocationOf(options, 'qcow2') };
}

function versionOf(compat: string): 2 | 3 {
  if (compat === '0.10' || compat === 'v2') return 2;
  if (compat === '1.1' || compat === 'v3') return 3;
  throw new ToolError(`Parameter 'version' does not accept value '${compat}'`);
}

function assertOldEnough(options: {
  refcountBits: number;
  lazyRefcounts: boolean;
  compressionType: string;
}): void {
  const newer = '(use version=v3 or greater)';
  if (options.lazyRefcounts) {
    const text = `Lazy refcounts only supported with compatibility level 1.1 and above ${newer}`;
    throw new ToolError(text);
  }
  if (options.refcountBits !== 16) {
    const text = 'Different refcount widths than 16 bits require compatibility level 1.1 or above';
    throw new ToolError(`${text} ${newer}`);
  }
  if (options.compressionType !== 'zlib') {
    const text = 'Non-zlib compression type is only supported with compatibility level 1.1 and above';
    throw new ToolError(`${text} ${newer}`);
  }
}

function sizeOption(options: ImageOptions, key: string, otherwise: number): number {
  const text = options.get(key);
  if (text === undefined) return otherwise;
  const bytes = parseSize(text);
  if (bytes !== undefined) return bytes;
  throw new ToolError(
    `Parameter '${key}' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E means ` +
      'kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.',
  );
}

function switchOption(options: ImageOptions, key: string): boolean {
  const text = options.get(key) ?? 'off';
  if (text === 'on' || text === 'off') return text === 'on';
  throw new ToolError(`Parameter '${key}' expects 'on' or 'off'`);
}

/** What `create` says first. */
export function formattingLine(
  path: string,
  format: TargetFormat,
  about: { sizeText: string; options: ImageOptions },
): string {
  const { options, sizeText } = about;
  const words = [`Formatting '${path}', fmt=${format}`];
  const given = (key: string) => {
    const value = options.get(key);
    if (value !== undefined) words.push(`${key}=${value.replaceAll(',', ',,')}`);
  };
  if (format === 'raw') {
    words.push(`size=${sizeText}`);
    for (const key of ['preallocation', 'nocow', 'extent_size_hint']) given(key);
    return words.join(' ');
  }
  const bytes = (key: string, otherwise: number) => parseSize(options.get(key) ?? '') ?? otherwise;
  words.push(`cluster_size=${bytes('cluster_size', 65_536)}`);
  words.push(`extended_l2=${options.get('extended_l2') ?? 'off'}`);
  given('preallocation');
  words.push(`compression_type=${options.get('compression_type') ?? 'zlib'}`, `size=${sizeText}`);
  for (const key of ['compat', 'backing_file', 'backing_fmt']) given(key);
  words.push(`lazy_refcounts=${options.get('lazy_refcounts') ?? 'off'}`);
  words.push(`refcount_bits=${bytes('refcount_bits', 16)}`);
  for (const key of ['nocow', 'extent_size_hint']) given(key);
  return words.join(' ');
}
