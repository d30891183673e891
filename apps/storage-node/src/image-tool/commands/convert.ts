// `convert`: copies one or several images into one of another format.

import { BlockGraph } from '@tidemark/engine';
import type { CommandLine } from '../command-line.ts';
import { parseKeyValues } from '../command-line.ts';
import { assertBitmapsWhole, copyBitmaps } from '../copy-bitmaps.ts';
import { copyImage } from '../copy-image.ts';
import { assertKnown, type ImageOptions, type TargetFormat, targetFormat } from '../image-options.ts';
import { type Layers, openLayers } from '../layers.ts';
import { makeImage } from '../make-image.ts';
import { ProgressLine } from '../progress.ts';
import { parseSize } from '../sizes.ts';
import type { Tool, ToolCommand } from '../tool.ts';
import { errorText, ToolError } from '../tool-error.ts';

const SPARSE_BYTES_DEFAULT = 4096;
const SPARSE_BYTES_MAX = 16 * 1024 * 1024;
const SECTOR = 512;
const WORKERS_DEFAULT = 8;
const WORKERS_MAX = 16;
const CACHE_MODES = ['none', 'writeback', 'writethrough', 'directsync', 'unsafe'];

export const convertCommand: ToolCommand = {
  name: 'convert',
  synopsis:
    '[-U] [-C] [-c] [-p] [-q] [-n] [--target-is-zero] [--bitmaps] [-f fmt] [-t cache] [-T src_cache] [-O output_fmt] ' +
    '[-B backing_file [-F backing_fmt]] [-o options] [-S sparse_size] [-m num_coroutines] [-W] ' +
    'filename [filename2 [...]] output_filename',
  options: {
    C: 'flag',
    c: 'flag',
    p: 'flag',
    q: 'flag',
    n: 'flag',
    'target-is-zero': 'flag',
    bitmaps: 'flag',
    'skip-broken-bitmaps': 'flag',
    f: 'value',
    t: 'value',
    T: 'value',
    O: 'value',
    B: 'value',
    F: 'value',
    o: 'value',
    S: 'value',
    m: 'value',
    W: 'flag',
  },
  async run(line, tool) {
    const plan = makePlan(line);
    const sources: Layers[] = [];
    const graph = new BlockGraph();
    try {
      for (const name of plan.inputs) {
        const about = { format: line.value('f'), forceShare: line.has('U'), graph };
        sources.push(await openLayers(name, about));
      }
      if (plan.bitmaps) {
        assertBitmapsWhole({ source: sources[0]!.top.disk, skipBroken: line.has('skip-broken-bitmaps') });
      }
      await convert({ ...plan, graph }, sources, line, tool);
    } finally {
      for (const source of sources) await source.close();
    }
    return 0;
  },
};

interface Plan {
  readonly inputs: readonly string[];
  readonly output: string;
  readonly format: TargetFormat;
  readonly options: ImageOptions;
  readonly compressed: boolean;
  readonly bitmaps: boolean;
  /** The target is there. */
  readonly exists: boolean;
  readonly sparseBytes: number;
  readonly workers: number;
}

/** Finds the faults that need no image. */
function makePlan(line: CommandLine): Plan {
  const sparseBytes = sparseOf(line.value('S'));
  const workers = workersOf(line.value('m'));
  for (const cache of [line.value('t'), line.value('T')]) {
    if (cache !== undefined && !CACHE_MODES.includes(cache))
      throw new ToolError(`Invalid cache option: ${cache}`);
  }
  const bitmaps = line.has('bitmaps');
  if (line.has('skip-broken-bitmaps') && !bitmaps) {
    throw new ToolError('Use of --skip-broken-bitmaps requires --bitmaps');
  }
  const inputs = line.operands.slice(0, -1);
  const output = line.operands.at(-1);
  if (output === undefined || inputs.length === 0) throw new ToolError('Must specify image file name');
  const exists = line.has('n');
  if (line.has('target-is-zero') && !exists) throw new ToolError('--target-is-zero requires use of -n flag');
  const options = new Map(
    line.given.flatMap(({ name, value }) => (name === 'o' ? [...parseKeyValues(value!)] : [])),
  );
  if (exists && options.size > 0) throw new ToolError('-o has no effect when skipping image creation');
  const format = targetFormat(line.value('O') ?? 'raw');
  const backing = line.value('B');
  const backingFormat = line.value('F');
  if (backing !== undefined) options.set('backing_file', backing);
  if (backingFormat !== undefined) options.set('backing_fmt', backingFormat);
  if (format === 'raw' && options.has('backing_file')) {
    throw new ToolError("Backing file not supported for file format 'raw'");
  }
  if (options.has('backing_file') && !options.has('backing_fmt')) {
    throw new ToolError('Use of backing file requires explicit backing format');
  }
  if (!exists) assertKnown(options, format);
  if (bitmaps && inputs.length > 1) throw new ToolError('Copying bitmaps only possible with single source');
  if (bitmaps && format === 'raw') throw new ToolError("Format driver 'raw' does not support bitmaps");
  const compressed = line.has('c');
  if (compressed && format === 'raw') throw new ToolError('Compression not supported for this file format');
  return { inputs, output, format, options, compressed, bitmaps, exists, sparseBytes, workers };
}

function sparseOf(text: string | undefined): number {
  if (text === undefined) return SPARSE_BYTES_DEFAULT;
  const bytes = parseSize(text);
  if (bytes !== undefined && bytes % SECTOR === 0 && bytes <= SPARSE_BYTES_MAX) return bytes;
  throw new ToolError(
    `Invalid buffer size for sparse output specified. Valid sizes are multiples of ${SECTOR} up to ` +
      `${SPARSE_BYTES_MAX}. Select 0 to disable sparse detection (fully allocates output).`,
  );
}

function workersOf(text: string | undefined): number {
  if (text === undefined) return WORKERS_DEFAULT;
  const workers = Number(text);
  if (Number.isInteger(workers) && workers >= 1 && workers <= WORKERS_MAX) return workers;
  throw new ToolError(
    `Invalid number of coroutines. Allowed number of coroutines is between 1 and ${WORKERS_MAX}`,
  );
}

async function convert(
  plan: Plan & { graph: BlockGraph },
  sources: readonly Layers[],
  line: CommandLine,
  tool: Tool,
): Promise<void> {
  const { output, format, options, exists } = plan;
  const totalBytes = sources.reduce((sum, { top }) => sum + top.disk.sizeBytes, 0);
  const sizeBytes = parseSize(options.get('size') ?? '') ?? totalBytes;
  const file = exists ? undefined : await makeTarget({ path: output, format, sizeBytes, options });
  try {
    const target = await openLayers(output, { format, writable: true, graph: plan.graph });
    try {
      if (target.top.disk.sizeBytes < totalBytes)
        throw new ToolError('output file is smaller than input file');
      const progress = new ProgressLine(totalBytes, line.has('p') && !line.has('q') ? tool : undefined);
      const hasBacking = target.top.header?.backingPath !== undefined;
      await copyImage({
        ...plan,
        sources,
        target: target.top.disk,
        targetIsZero: exists ? line.has('target-is-zero') : !hasBacking,
        topOnly: hasBacking && !exists,
        progress,
      });
      if (plan.bitmaps) {
        const ends = { source: sources[0]!.top.disk, target: target.top.disk };
        copyBitmaps({ graph: plan.graph, ...ends, skipBroken: line.has('skip-broken-bitmaps') }, tool);
      }
      await target.top.disk.flush();
      if (line.has('p') && !line.has('q')) progress.end();
    } finally {
      await target.close();
    }
    await file?.keep();
  } catch (error) {
    await file?.takeBack();
    throw error instanceof ToolError ? error : new ToolError(`error while converting: ${errorText(error)}`);
  }
}

async function makeTarget(about: Parameters<typeof makeImage>[0]) {
  try {
    return await makeImage(about);
  } catch (error) {
    const { path, format } = about;
    throw new ToolError(`${path}: error while converting ${format}: ${errorText(error)}`);
  }
}
