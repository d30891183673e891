// `create`: an empty image.
import { parseKeyValues } from '../command-line.ts';
import { assertKnown, formattingLine, type ImageOptions, targetFormat } from '../image-options.ts';
import { beside, openLayers } from '../layers.ts';
import { makeImage } from '../make-image.ts';
import { parseSize, sizeArgument } from '../sizes.ts';
import type { ToolCommand } from '../tool.ts';
import { ToolError, usageError } from '../tool-error.ts';

export const createCommand: ToolCommand = {
  name: 'create',
  synopsis: '[-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] [-o options] filename [size]',
  options: { q: 'flag', f: 'value', b: 'value', F: 'value', u: 'flag', o: 'value' },
  async run(line, { out }) {
    const [path, sizeText, ...more] = line.operands;
    if (path === undefined) throw usageError('Expecting image file name');
    const size = sizeText === undefined ? undefined : sizeArgument(sizeText, 'image size');
    if (more.length > 0) throw usageError(`Unexpected argument: ${more[0]}`);
    try {
      const format = targetFormat(line.value('f') ?? 'raw');
      const options = new Map(
        line.given.flatMap(one => (one.name === 'o' ? [...parseKeyValues(one.value!)] : [])),
      );
      const backing = { b: line.value('b'), F: line.value('F') };
      if (format === 'raw' && (backing.b ?? options.get('backing_file')) !== undefined) {
        throw new ToolError(`Backing file not supported for file format '${format}'`);
      }
      if (backing.b !== undefined) options.set('backing_file', backing.b);
      if (backing.F !== undefined) options.set('backing_fmt', backing.F);
      assertKnown(options, format);
      const fromBacking = await checkBacking(path, options, { unsafe: line.has('u') });
      const sizeBytes = size ?? sizeOption(options) ?? fromBacking;
      if (sizeBytes === undefined) throw new ToolError('Image creation needs a size parameter');
      const about = { sizeText: String(sizeBytes), options };
      if (!line.has('q')) out(`${formattingLine(path, format, about)}\n`);
      const file = await makeImage({ path, format, sizeBytes, options });
      await file.keep();
    } catch (error) {
      if (error instanceof ToolError) throw new ToolError(`${path}: ${error.message}`, error.exitCode);
      throw error;
    }
    return 0;
  },
};

function sizeOption(options: ImageOptions): number | undefined {
  const text = options.get('size');
  if (text === undefined) return undefined;
  const bytes = parseSize(text);
  if (bytes === undefined) throw new ToolError("Parameter 'size' expects a size");
  return bytes;
}

/** Returns the size of the backing image, which is opened for it unless that is unsafe to be done. */
async function checkBacking(
  path: string,
  options: ImageOptions,
  { unsafe }: { unsafe: boolean },
): Promise<number | undefined> {
  const backing = options.get('backing_file');
  if (backing === undefined || backing === '') return undefined;
  const name = beside(path, backing);
  if (name === path)
    throw new ToolError('Error: Trying to create an image with the same filename as the backing file');
  const format = options.get('backing_fmt');
  if (unsafe) {
    if (format === undefined) throw new ToolError('Backing file specified without backing format');
    return undefined;
  }
  const layers = await openLayers(name, { format }).catch((error: Error) => {
    throw new ToolError(
      `${error.message.replace(/^Could not open '.*?': /s, '')}\nCould not open backing image.`,
    );
  });
  const { format: found, disk } = layers.top;
  await layers.close();
  if (format !== undefined) return disk.sizeBytes;
  throw new ToolError(`Backing file specified without backing format\nDetected format of ${found}.`);
}
