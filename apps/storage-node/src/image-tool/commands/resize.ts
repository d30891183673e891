// `resize`: another size of the disk.
import { openLayers } from '../layers.ts';
import { parseSize } from '../sizes.ts';
import type { ToolCommand } from '../tool.ts';
import { errorText, ToolError, usageError } from '../tool-error.ts';
import { warnOfGuess } from '../warnings.ts';

export const resizeCommand: ToolCommand = {
  name: 'resize',
  synopsis: '[-f fmt] [-q] [--shrink] filename [+ | -]size',
  options: { f: 'value', q: 'flag', shrink: 'flag', preallocation: 'value' },
  async run(line, tool) {
    const [name, text, ...more] = line.operands;
    if (name === undefined || text === undefined) throw usageError('Not enough arguments');
    if (more.length > 0) throw usageError('Expecting image file name and size');
    const preallocation = line.value('preallocation') ?? 'off';
    if (!['off', 'metadata', 'falloc', 'full'].includes(preallocation)) {
      throw new ToolError(`Invalid preallocation mode '${preallocation}'`);
    }
    if (preallocation !== 'off')
      throw new ToolError(`Preallocation mode '${preallocation}' is not supported here`);
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
      await disk.resize!(after);
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

const SHRINK_REFUSED =
  'Use the --shrink option to perform a shrink operation.\n' +
  "tidemark-image: warning: Shrinking an image will delete all data beyond the shrunken image's end. " +
  'Before performing such an operation, make sure there is no important data there.';
