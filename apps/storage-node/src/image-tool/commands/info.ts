// `info`: what an image says of itself.
import { describeImage, imageLines } from '../describe-image.ts';
import { prettyJson } from '../json-output.ts';
import { openLayers } from '../layers.ts';
import { wantsJson } from '../output-format.ts';
import type { ToolCommand } from '../tool.ts';
import { usageError } from '../tool-error.ts';

export const infoCommand: ToolCommand = {
  name: 'info',
  synopsis: '[-f fmt] [--output=ofmt] [--backing-chain] [-U] filename',
  options: { f: 'value', output: 'value', 'backing-chain': 'flag' },
  async run(line, { out }) {
    const json = wantsJson(line);
    if (line.operands.length !== 1) throw usageError('Expecting one image file name');
    const chain = line.has('backing-chain');
    const about = { format: line.value('f'), forceShare: line.has('U'), alone: !chain };
    const layers = await openLayers(line.operands[0]!, about);
    try {
      const facts = await Promise.all(layers.all.map(describeImage));
      if (json) out(`${prettyJson(chain ? facts : facts[0])}\n`);
      else out(facts.map(one => `${imageLines(one).join('\n')}\n`).join('\n'));
    } finally {
      await layers.close();
    }
    return 0;
  },
};
