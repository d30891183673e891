// `compare`: whether two images have the same contents, whatever their formats.
import { SECTOR_BYTES } from '@tidemark/engine';
import { BlockMap, type MapEntry } from '../block-map.ts';
import { type Layers, openLayers } from '../layers.ts';
import { ProgressLine } from '../progress.ts';
import type { Tool, ToolCommand } from '../tool.ts';
import { errorText, ToolError, usageError } from '../tool-error.ts';
import { firstNonZero } from '../zeroes.ts';

const CHUNK_BYTES = 2 * 1024 * 1024;
/** Of trouble, as against images that differ. */
const EXIT_TROUBLE = 2;

export const compareCommand: ToolCommand = {
  name: 'compare',
  synopsis: '[-f fmt] [-F fmt] [-T src_cache] [-p] [-q] [-s] [-U] filename1 filename2',
  options: { f: 'value', F: 'value', T: 'value', p: 'flag', q: 'flag', s: 'flag' },
  async run(line, tool) {
    const [first, second, ...more] = line.operands;
    if (first === undefined || second === undefined || more.length > 0) {
      throw usageError('Expecting two image file names');
    }
    const how = { forceShare: line.has('U'), exitCode: EXIT_TROUBLE };
    const one = await openLayers(first, { ...how, format: line.value('f') });
    try {
      const other = await openLayers(second, { ...how, format: line.value('F') });
      try {
        const output = line.has('q') ? { out() {}, err() {} } : tool;
        return await compare(one, other, { strict: line.has('s'), progress: line.has('p'), output });
      } finally {
        await other.close();
      }
    } catch (error) {
      throw error instanceof ToolError ? error : new ToolError(errorText(error), EXIT_TROUBLE);
    } finally {
      await one.close();
    }
  },
};

interface How {
  readonly strict: boolean;
  readonly progress: boolean;
  readonly output: Pick<Tool, 'out' | 'err'>;
}

async function compare(one: Layers, other: Layers, { strict, progress, output }: How): Promise<number> {
  const sizes = [one.top.disk.sizeBytes, other.top.disk.sizeBytes] as const;
  const common = Math.min(...sizes);
  if (sizes[0] !== sizes[1] && strict) {
    output.out('Strict mode: Image size mismatch!\n');
    return 1;
  }
  const shown = new ProgressLine(Math.max(...sizes), progress ? output : undefined);
  const difference = await firstDifference({ one, other, end: common, strict, shown });
  if (difference !== undefined) {
    output.out(difference);
    return 1;
  }
  if (sizes[0] !== sizes[1]) {
    output.out('Warning: Image size mismatch!\n');
    const offset = await firstData(sizes[0] > sizes[1] ? one : other, common);
    if (offset !== undefined) {
      output.out(`Content mismatch at offset ${offset}!\n`);
      return 1;
    }
  }
  shown.full();
  output.out('Images are identical.\n');
  shown.end();
  return 0;
}

interface Comparison {
  readonly one: Layers;
  readonly other: Layers;
  readonly end: number;
  readonly strict: boolean;
  readonly shown: ProgressLine;
}

/** The line that tells of it; undefined where there is none. */
async function firstDifference({ one, other, end, strict, shown }: Comparison): Promise<string | undefined> {
  const maps = [new BlockMap(one.all), new BlockMap(other.all)] as const;
  const buffers = [Buffer.alloc(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES)] as const;
  let [left, right]: (MapEntry | undefined)[] = [undefined, undefined];
  for (let at = 0; at < end; ) {
    left = goesOn(left, at) ?? (await maps[0].lookup(at, end - at));
    right = goesOn(right, at) ?? (await maps[1].lookup(at, end - at));
    if (strict && !sameStatus(left, right)) return `Strict mode: Offset ${at} block status mismatch!\n`;
    const both = Math.min(left.length, right.length);
    const zero = left.zero && right.zero;
    const length = zero ? both : Math.min(both, CHUNK_BYTES);
    if (!zero) {
      const [mine, theirs] = buffers.map(buffer => buffer.subarray(0, length)) as [Buffer, Buffer];
      await Promise.all([readOrZero(one, left, at, mine), readOrZero(other, right, at, theirs)]);
      const offset = differs(mine, theirs);
      if (offset !== undefined) return `Content mismatch at offset ${at + offset}!\n`;
    }
    at += length;
    shown.update(at);
  }
  return undefined;
}

/** The rest of an entry that reaches beyond `at`. */
function goesOn(entry: MapEntry | undefined, at: number): MapEntry | undefined {
  if (entry === undefined || entry.start + entry.length <= at) return undefined;
  return { ...entry, start: at, length: entry.start + entry.length - at };
}

function sameStatus(one: MapEntry, other: MapEntry): boolean {
  return (
    one.data === other.data &&
    one.zero === other.zero &&
    one.present === other.present &&
    one.compressed === other.compressed
  );
}

async function readOrZero(layers: Layers, entry: MapEntry, at: number, buffer: Buffer): Promise<void> {
  if (entry.zero) buffer.fill(0);
  else await layers.top.disk.read(at, buffer);
}

/** Of the first sector that is not the same. */
function differs(one: Buffer, other: Buffer): number | undefined {
  if (one.equals(other)) return undefined;
  for (let at = 0; ; at += SECTOR_BYTES) {
    if (one.compare(other, at, at + SECTOR_BYTES, at, at + SECTOR_BYTES) !== 0) return at;
  }
}

/** From `start` on, the first sector that is not zero. */
async function firstData(layers: Layers, start: number): Promise<number | undefined> {
  const { disk } = layers.top;
  const map = new BlockMap(layers.all);
  const buffer = Buffer.alloc(CHUNK_BYTES);
  for (let at = start; at < disk.sizeBytes; ) {
    const entry = await map.lookup(at, disk.sizeBytes - at);
    const length = entry.zero ? entry.length : Math.min(entry.length, CHUNK_BYTES);
    if (!entry.zero) {
      const part = buffer.subarray(0, length);
      await disk.read(at, part);
      const offset = firstNonZero(part, SECTOR_BYTES);
      if (offset !== undefined) return at + offset;
    }
    at += length;
  }
  return undefined;
}
