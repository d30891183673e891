// Labels as every command that shows, gives or changes them has them, and selectors of lists.
import { type Command, InvalidArgumentError } from 'commander';
import { Context, type Surroundings } from './context.ts';

type Labels = Record<string, string>;

interface Labelled {
  name: string;
  labels: Labels;
}

/** `k=v`, or `k-` to take it away. */
const CHANGE = /^([^=]+?)(?:=(.*)|-)$/s;

export const labelText = ({ labels }: { labels: Labels }): string | null =>
  Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',') || null;

function collect(text: string, labels: Labels = {}): Labels {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Give key=value.');
  return { ...labels, [text.slice(0, at)]: text.slice(at + 1) };
}

/** For every command that makes something with labels. */
export function withLabels(command: Command): Command {
  return command.option('--label <key=value>', 'label to choose it by; give one for each', collect);
}

/** For every list that can be narrowed by labels. */
export function withSelector(command: Command): Command {
  return command.option(
    '--selector <terms>',
    "only with labels like these: 'app=web,tier in (gold,silver),!old'",
  );
}

function changed(labels: Labels, changes: readonly string[]): Labels {
  const after = { ...labels };
  for (const text of changes) {
    const [, key = '', value] = CHANGE.exec(text) ?? [];
    if (key === '')
      throw new InvalidArgumentError(`'${text}' is no change: give key=value, or key- to take it away.`);
    if (value === undefined) delete after[key];
    else after[key] = value;
  }
  return after;
}

interface Labelling {
  noun: string;
  look: (context: Context, ref: string) => Promise<Labelled>;
  change: (context: Context, ref: string, labels: Labels) => Promise<Labelled>;
  around: Surroundings;
}

/** `tidemark NOUN label`: shows the labels, or changes those that are named and shows what there is then. */
export function labelCommand(group: Command, { noun, look, change, around }: Labelling): void {
  group
    .command(`label <${noun}> [changes...]`)
    .description('show labels, or change them: key=value, or key- to take it away')
    .action(async (ref: string, changes: string[], _options, command) => {
      const context = new Context(command, around);
      const before = await look(context, ref);
      const after =
        changes.length === 0 ? before : await change(context, ref, changed(before.labels, changes));
      context.output.show(after, [
        ['NAME', item => item.name],
        ['LABELS', labelText],
      ]);
    });
}
