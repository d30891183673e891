// `snapshot`: the internal snapshots of an image.
import { type Layers, openLayers } from '../layers.ts';
import { describeSnapshot, snapshotLines } from '../snapshot-list.ts';
import type { Tool, ToolCommand } from '../tool.ts';
import { errorText, ToolError, usageError } from '../tool-error.ts';
import { warnOfGuess } from '../warnings.ts';

const ACTIONS = ['l', 'a', 'c', 'd'] as const;
type Action = (typeof ACTIONS)[number];

export const snapshotCommand: ToolCommand = {
  name: 'snapshot',
  synopsis: '[-U] [-q] [-l | -a snapshot | -c snapshot | -d snapshot] filename',
  options: { q: 'flag', l: 'flag', a: 'value', c: 'value', d: 'value', f: 'value' },
  async run(line, tool) {
    const given = line.given.filter(({ name }) => (ACTIONS as readonly string[]).includes(name));
    if (given.length > 1) throw usageError("Cannot mix '-l', '-a', '-c', '-d'");
    if (line.operands.length !== 1) throw usageError('Expecting one image file name');
    const action = (given[0]?.name ?? 'l') as Action;
    const writable = action !== 'l';
    const about = { format: line.value('f'), writable, forceShare: line.has('U') };
    const layers = await openLayers(line.operands[0]!, about);
    try {
      if (writable) warnOfGuess(layers.top, tool);
      if (given[0] !== undefined) await act(action, given[0].value ?? '', layers, tool);
    } finally {
      await layers.close();
    }
    return 0;
  },
};

const VERBS = { a: 'apply', c: 'create', d: 'delete' } as const;

async function act(action: Action, name: string, { top }: Layers, tool: Tool): Promise<void> {
  const { image } = top;
  if (action === 'l') {
    const snapshots = (await image?.snapshots()) ?? [];
    for (const line of snapshotLines(snapshots.map(describeSnapshot))) tool.out(`${line}\n`);
    return;
  }
  const refuse = (why: string) => new ToolError(`Could not ${VERBS[action]} snapshot '${name}': ${why}`);
  if (image === undefined) {
    if (action === 'c') throw refuse('-95 (Operation not supported)');
    throw refuse(action === 'd' ? 'snapshot not found' : 'Block driver does not support snapshots');
  }
  if (action !== 'c' && !(await image.snapshots()).some(one => one.id === name || one.name === name)) {
    throw refuse(
      action === 'd' ? 'snapshot not found' : 'Failed to load snapshot: No such file or directory',
    );
  }
  try {
    if (action === 'a') await image.applySnapshot(name);
    else if (action === 'd') await image.deleteSnapshot(name);
    else {
      // The clock knows no finer parts.
      await image.createSnapshot({ name, dateNanoseconds: BigInt(Math.floor(tool.wallMs())) * 1_000_000n });
    }
    await image.flush();
  } catch (error) {
    throw refuse(errorText(error));
  }
}
