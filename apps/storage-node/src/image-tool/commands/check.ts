// `check`: whether an image's metadata agrees with itself, and its repair.
import { checkQcow2, type Qcow2CheckResult } from '@tidemark/engine';
import { prettyJson } from '../json-output.ts';
import { openFileOf } from '../layers.ts';
import { wantsJson } from '../output-format.ts';
import type { Tool, ToolCommand } from '../tool.ts';
import { errorText, ToolError, usageError } from '../tool-error.ts';

const EXIT = { clean: 0, failed: 1, corrupt: 2, leaks: 3, unsupported: 63 } as const;

export const checkCommand: ToolCommand = {
  name: 'check',
  synopsis: '[-q] [-f fmt] [--output=ofmt] [-r [leaks | all]] [-U] filename',
  options: { q: 'flag', f: 'value', output: 'value', r: 'value', repair: 'value', T: 'value' },
  async run(line, tool) {
    const json = wantsJson(line);
    const repair = line.value('r') ?? line.value('repair');
    if (repair !== undefined && repair !== 'leaks' && repair !== 'all') {
      throw usageError(`Unknown option value for -r (expecting 'leaks' or 'all'): ${repair}`);
    }
    if (line.operands.length !== 1) throw usageError('Expecting one image file name');
    const filename = line.operands[0]!;
    const about = { format: line.value('f'), writable: repair !== undefined, forceShare: line.has('U') };
    const image = await openFileOf(filename, about);
    let result: Qcow2CheckResult;
    try {
      if (image.format === 'raw') {
        throw new ToolError('This image format does not support checks', EXIT.unsupported);
      }
      result = await checkQcow2(image.file, repair === undefined ? {} : { repair });
      await image.file.flush();
    } catch (error) {
      throw error instanceof ToolError ? error : new ToolError(`Check failed: ${errorText(error)}`);
    } finally {
      await image.file.close();
    }
    for (const finding of result.findings) tool.err(`${finding}\n`);
    if (json) tool.out(`${prettyJson(jsonOf(result, filename))}\n`);
    else if (!line.has('q')) printResult(result, tool);
    if (result.checkErrors > 0) return EXIT.failed;
    if (result.corruptions > 0) return EXIT.corrupt;
    return result.leaks > 0 ? EXIT.leaks : EXIT.clean;
  },
};

/** What is zero is left out where it says nothing. */
function jsonOf(result: Qcow2CheckResult, filename: string): object {
  const unlessZero = (count: number) => (count === 0 ? undefined : count);
  return {
    'image-end-offset': result.imageEndOffset,
    leaks: unlessZero(result.leaks),
    'compressed-clusters': unlessZero(result.compressedClusters),
    'total-clusters': result.totalClusters,
    corruptions: unlessZero(result.corruptions),
    'check-errors': result.checkErrors,
    'leaks-fixed': unlessZero(result.leaksFixed),
    'corruptions-fixed': unlessZero(result.corruptionsFixed),
    'allocated-clusters': unlessZero(result.allocatedClusters),
    filename,
    format: 'qcow2',
    'fragmented-clusters': unlessZero(result.fragmentedClusters),
  };
}

function printResult(result: Qcow2CheckResult, { out }: Tool): void {
  const { corruptions, leaks, checkErrors, allocatedClusters, totalClusters } = result;
  if (result.leaksFixed > 0 || result.corruptionsFixed > 0) {
    out(
      `The following inconsistencies were found and repaired:\n\n    ${result.leaksFixed} leaked clusters\n` +
        `    ${result.corruptionsFixed} corruptions\n\nDouble checking the fixed image now...\n`,
    );
  }
  if (corruptions + leaks + checkErrors === 0) out('No errors were found on the image.\n');
  if (corruptions > 0) {
    out(
      `\n${corruptions} errors were found on the image.\n` +
        'Data may be corrupted, or further writes to the image may corrupt it.\n',
    );
  }
  if (leaks > 0) {
    out(
      `\n${leaks} leaked clusters were found on the image.\n` +
        'This means waste of disk space, but no harm to data.\n',
    );
  }
  if (checkErrors > 0) out(`\n${checkErrors} internal errors have occurred during the check.\n`);
  if (totalClusters > 0 && allocatedClusters > 0) {
    out(
      `${allocatedClusters}/${totalClusters} = ${percent(allocatedClusters, totalClusters)} allocated, ` +
        `${percent(result.fragmentedClusters, allocatedClusters)} fragmented, ` +
        `${percent(result.compressedClusters, allocatedClusters)} compressed clusters\n`,
    );
  }
  out(`Image end offset: ${result.imageEndOffset}\n`);
}

/** Two digits; what lies in the middle goes to the even one, as C's `printf` has it. */
function percent(part: number, whole: number): string {
  const hundredths = (part * 10_000) / whole;
  const floor = Math.floor(hundredths);
  const even = hundredths - floor === 0.5 && floor % 2 === 0;
  return `${((even ? floor : Math.round(hundredths)) / 100).toFixed(2)}%`;
}
