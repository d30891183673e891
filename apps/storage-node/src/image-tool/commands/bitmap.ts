// `bitmap`: the dirty bitmaps that an image keeps.
import {
  addBitmap,
  applyAction,
  BlockGraph,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  type InstantAction,
  mergeBitmaps,
  removeBitmap,
} from '@tidemark/engine';
import type { CommandLine } from '../command-line.ts';
import { type Layers, openLayers } from '../layers.ts';
import { sizeArgument } from '../sizes.ts';
import type { ToolCommand } from '../tool.ts';
import { errorText, ToolError, usageError } from '../tool-error.ts';
import { warnOfGuess } from '../warnings.ts';

const ACTIONS = ['add', 'remove', 'clear', 'enable', 'disable', 'merge'];

export const bitmapCommand: ToolCommand = {
  name: 'bitmap',
  synopsis:
    '(--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b source_file [-F source_fmt]] ' +
    '[-g granularity] [-f fmt] filename bitmap',
  options: {
    add: 'flag',
    remove: 'flag',
    clear: 'flag',
    enable: 'flag',
    disable: 'flag',
    merge: 'value',
    b: 'value',
    F: 'value',
    f: 'value',
    g: 'value',
    granularity: 'value',
  },
  async run(line, tool) {
    const granularity = line.value('g') ?? line.value('granularity');
    const granularityBytes = granularity === undefined ? undefined : sizeArgument(granularity, 'granularity');
    const actions = line.given.filter(({ name }) => ACTIONS.includes(name));
    assertTogether(line, { granular: granularityBytes !== undefined, actions: actions.map(one => one.name) });
    const [filename, bitmap, ...more] = line.operands;
    if (filename === undefined || bitmap === undefined || more.length > 0) {
      throw new ToolError('Expecting filename and bitmap name');
    }
    const graph = new BlockGraph();
    const layers = await openLayers(filename, { format: line.value('f'), writable: true, graph });
    let source: Layers | undefined;
    try {
      warnOfGuess(layers.top, tool);
      const from = line.value('b');
      if (from !== undefined)
        source = await openLayers(from, { format: line.value('F'), graph, alone: true });
      const node = layers.top.disk.name;
      const sourceNode = source?.top.disk.name ?? node;
      for (const { name, value } of actions) {
        const about = {
          node,
          name: bitmap,
          granularityBytes,
          source: { node: sourceNode, name: value ?? '' },
        };
        act(graph, name, about);
      }
    } finally {
      await source?.close();
      await layers.close();
    }
    return 0;
  },
};

function assertTogether(line: CommandLine, about: { granular: boolean; actions: readonly string[] }): void {
  const { granular, actions } = about;
  if (actions.length === 0) {
    throw new ToolError('Need at least one of --add, --remove, --clear, --enable, --disable, or --merge');
  }
  if (granular && !actions.includes('add')) throw new ToolError('granularity only supported with --add');
  if (line.has('F') && !line.has('b')) throw new ToolError('-F only supported with -b');
  if (line.has('b') && !actions.includes('merge')) {
    throw new ToolError('Merge bitmap source file only supported with --merge');
  }
}

interface About {
  readonly node: string;
  readonly name: string;
  readonly granularityBytes: number | undefined;
  readonly source: { readonly node: string; readonly name: string };
}

/** Throws a `ToolError` that names the action. */
function act(graph: BlockGraph, action: string, about: About): void {
  try {
    applyAction(graph, actionOf(action, about));
  } catch (error) {
    throw new ToolError(`Operation ${action} on bitmap ${about.name} failed: ${errorText(error)}`);
  }
}

function actionOf(action: string, { node, name, granularityBytes, source }: About): InstantAction {
  const bitmap = { node, name };
  switch (action) {
    case 'add':
      return addBitmap({ ...bitmap, persistent: true, ...(granularityBytes && { granularityBytes }) });
    case 'remove':
      return removeBitmap(bitmap);
    case 'clear':
      return clearBitmap(bitmap);
    case 'enable':
      return enableBitmap(bitmap);
    case 'disable':
      return disableBitmap(bitmap);
    case 'merge':
      return mergeBitmaps(bitmap, [source]);
    default:
      throw usageError(`unknown action '${action}'`);
  }
}
