// `rebase -u`: another name of the backing image in the header, and nothing else.
import { rewriteBackingPointer } from '@tidemark/engine';
import { openFileOf } from '../layers.ts';
import type { ToolCommand } from '../tool.ts';
import { errorText, ToolError, usageError } from '../tool-error.ts';
import { warnOfGuess } from '../warnings.ts';

export const rebaseCommand: ToolCommand = {
  name: 'rebase',
  synopsis: '[-q] [-f fmt] -u -b backing_file [-F backing_fmt] filename',
  options: { q: 'flag', f: 'value', t: 'value', T: 'value', p: 'flag', u: 'flag', b: 'value', F: 'value' },
  async run(line, tool) {
    const backing = line.value('b');
    if (line.operands.length !== 1) throw usageError('Expecting one image file name');
    if (!line.has('u')) {
      if (backing === undefined) throw usageError('Must specify backing file (-b) or use unsafe mode (-u)');
      throw new ToolError('Only the unsafe mode (-u) is supported: it changes the name and moves no data');
    }
    const format = line.value('F');
    if (format !== undefined && format !== 'raw' && format !== 'qcow2') {
      throw new ToolError(`Invalid format name: '${format}'`);
    }
    const image = await openFileOf(line.operands[0]!, { format: line.value('f'), writable: true });
    try {
      warnOfGuess(image, tool);
      const refuse = (why: string) =>
        new ToolError(`Could not change the backing file to '${backing ?? ''}': ${why}`);
      if (image.format === 'raw') throw refuse('Operation not supported');
      const pointer = backing === undefined || backing === '' ? undefined : { path: backing, format };
      if (pointer !== undefined && format === undefined) throw refuse('backing format must be specified');
      await rewriteBackingPointer(image.file, pointer).catch(error => {
        throw refuse(errorText(error));
      });
    } finally {
      await image.file.close();
    }
    return 0;
  },
};
