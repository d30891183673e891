// `resize`: another size of the disk.
import { openLayers, type TopLayer } from '../layers.ts';
import { parseSize } from '../sizes.ts';
import type { ToolCommand } from '../tool.ts';
import { errorText, ToolError, usageError } from '../tool-error.ts';
import { warnOfGuess } from '../warnings.ts';

export const resizeCommand: ToolCommand = {
  name: 'resize',
  synopsis: '[-f fmt] [--preallocation=prealloc] [-q] [--shrink] filename [+ | -]size',
  options: { f: 'value', q: 'flag', shrink: 'flag', preallocation: 'value' },
  async run(line, tool) {
    const [name, text, ...more] = line.operands;
    if (name === undefined || text === undefined) throw usageError('Not enough arguments');
    if (more.length > 0) throw usageError('Expecting image file name and size');
    const preallocation = line.value('preallocation') ?? 'off';
    if (!['off', 'metadata', 'falloc', 'full'].includes(preallocation)) {
      throw new ToolError(`Invalid preallocation mode '${preallocation}'`);
    }
    const [, sign = '', digits = ''] = /^([+-]?)(.*)$/s.exec(text)!;
    const bytes = parseSize(digits);
    if (bytes === undefined) {
      throw new ToolError(
        "Parameter 'size' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E means " +
          'kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.',
      );
    }
    const layers = await openLayers(name, { format: line.value('f'), writable: true });
    try {
      warnOfGuess(layers.top, tool);
      const { disk } = layers.top;
      const before = disk.sizeBytes;
      const after = sign === '' ? bytes : before + (sign === '+' ? bytes : -bytes);
      if (after <= 0) throw new ToolError('New image size must be positive');
      if (after < before && !line.has('shrink')) throw new ToolError(SHRINK_REFUSED);
      if (after < before && preallocation !== 'off') {
        throw new ToolError('Preallocation can only be used for growing images');
      }
      if (layers.top.format === 'raw' && preallocation === 'metadata') {
        throw new ToolError('Unsupported preallocation mode: metadata');
      }
      await disk.resize!(after);
      await preallocate(layers.top, { from: before, to: after, how: preallocation });
      await disk.flush();
    } catch (error) {
      throw error instanceof ToolError ? error : new ToolError(errorText(error));
    } finally {
      await layers.close();
    }
    if (!line.has('q')) tool.out('Image resized.\n');
    return 0;
  },
};

const CHUNK_BYTES = 2 * 1024 * 1024;

/** Takes the space of what was added. */
async function preallocate(
  { image, disk, file }: TopLayer,
  { from, to, how }: { from: number; to: number; how: string },
): Promise<void> {
  if (how === 'off' || from === to) return;
  if (image !== undefined && how === 'metadata') return image.preallocate(from, to - from);
  const zeroes = Buffer.alloc(CHUNK_BYTES);
  for (let at = from; at < to; at += CHUNK_BYTES) {
    const length = Math.min(CHUNK_BYTES, to - at);
    if (image === undefined && how === 'falloc') await file.writeZeroes(at, length, { mayUnmap: false });
    else await disk.write(at, zeroes.subarray(0, length));
  }
}

const SHRINK_REFUSED =
  'Use the --shrink option to perform a shrink operation.\n' +
  "tidemark-image: warning: Shrinking an image will delete all data beyond the shrunken image's end. " +
  'Before performing such an operation, make sure there is no important data there.';
