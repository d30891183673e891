// `map`: where the bytes of a disk lie.
import { BlockMap, type MapEntry } from '../block-map.ts';
import { type Layers, openLayers } from '../layers.ts';
import { wantsJson } from '../output-format.ts';
import { sizeArgument } from '../sizes.ts';
import type { Tool, ToolCommand } from '../tool.ts';
import { ToolError, usageError } from '../tool-error.ts';

const COLUMN = 16;

export const mapCommand: ToolCommand = {
  name: 'map',
  synopsis: '[-f fmt] [--start-offset=offset] [--max-length=len] [--output=ofmt] [-U] filename',
  options: {
    f: 'value',
    output: 'value',
    s: 'value',
    'start-offset': 'value',
    l: 'value',
    'max-length': 'value',
  },
  async run(line, tool) {
    const json = wantsJson(line);
    const start = line.value('start-offset') ?? line.value('s');
    const length = line.value('max-length') ?? line.value('l');
    const from = start === undefined ? 0 : sizeArgument(start, 'start offset');
    const most = length === undefined ? Infinity : sizeArgument(length, 'max length');
    if (line.operands.length !== 1) throw usageError('Expecting one image file name');
    const layers = await openLayers(line.operands[0]!, {
      format: line.value('f'),
      forceShare: line.has('U'),
    });
    try {
      const end = Math.min(layers.top.disk.sizeBytes, from + most);
      if (json) await printJson(layers, { from, end }, tool);
      else await printTable(layers, { from, end }, tool);
    } finally {
      await layers.close();
    }
    return 0;
  },
};

interface Range {
  readonly from: number;
  readonly end: number;
}

async function printJson(layers: Layers, { from, end }: Range, { out }: Tool): Promise<void> {
  let before = '[';
  for await (const { start, length, depth, present, zero, data, offset } of entries(layers, { from, end })) {
    const where = offset === undefined ? '' : `, "offset": ${offset}`;
    out(
      `${before}{ "start": ${start}, "length": ${length}, "depth": ${depth}, "present": ${present}, ` +
        `"zero": ${zero}, "data": ${data}${where}}`,
    );
    before = ',\n';
  }
  out(']\n');
}

/** A range without anything still has its entry. */
async function* entries(layers: Layers, { from, end }: Range): AsyncGenerator<MapEntry> {
  if (from < end) return yield* new BlockMap(layers.all).entries(from, end);
  const nothing = {
    depth: 0,
    present: false,
    zero: false,
    data: false,
    offset: undefined,
    compressed: false,
  };
  yield { start: from, length: 0, ...nothing };
}

async function printTable(layers: Layers, { from, end }: Range, { out }: Tool): Promise<void> {
  out(`${'Offset'.padEnd(COLUMN)}${'Length'.padEnd(COLUMN)}${'Mapped to'.padEnd(COLUMN)}File\n`);
  for await (const { start, length, depth, data, zero, offset } of entries(layers, { from, end })) {
    if (!data || zero) continue;
    if (offset === undefined) {
      throw new ToolError('File contains external, encrypted or compressed clusters.');
    }
    out(`${[start, length, offset].map(hexadecimal).join('')}${layers.all[depth]!.name}\n`);
  }
}

function hexadecimal(bytes: number): string {
  return (bytes === 0 ? '0' : `0x${bytes.toString(16)}`).padEnd(COLUMN);
}
