// The command line of qemu-storage-daemon(1), the parts that this daemon has.
import { parseArgs } from 'node:util';

/** `key=value` pairs; the first may stand without its key where the option has an implied one. */
export function parseKeyValues(text: string, impliedKey?: string): Map<string, string> {
  const pairs = new Map<string, string>();
  // A doubled comma stands for one in a value.
  for (const [index, part] of text.split(/(?<!,),(?!,)/).entries()) {
    const plain = part.replaceAll(',,', ',');
    const equals = plain.indexOf('=');
    if (equals < 0 && index === 0 && impliedKey !== undefined) pairs.set(impliedKey, plain);
    else if (equals < 0) throw new CommandLineError(`Expected '=' after parameter '${plain}'`);
    else pairs.set(plain.slice(0, equals), plain.slice(equals + 1));
  }
  return pairs;
}

/** Wrong use; the message is one line for standard error. */
export class CommandLineError extends Error {}

export interface CommandLine {
  readonly monitors: readonly { readonly path: string; readonly pretty: boolean }[];
}

/** Throws `CommandLineError`. */
export function parseCommandLine(args: readonly string[]): CommandLine {
  const { values } = parseArgs({
    args: [...args],
    options: { chardev: { type: 'string', multiple: true }, monitor: { type: 'string', multiple: true } },
  });
  const sockets = new Map<string, string>();
  for (const text of values.chardev ?? []) {
    const pairs = parseKeyValues(text, 'backend');
    const [backend, id, path] = ['backend', 'id', 'path'].map(key => pairs.get(key));
    if (backend !== 'socket') throw new CommandLineError(`'${backend}' is not a valid char driver name`);
    if (id === undefined) throw new CommandLineError('chardev: no id specified');
    if (path === undefined)
      throw new CommandLineError(`chardev '${id}': only Unix sockets are offered: give path=`);
    sockets.set(id, path);
  }
  const monitors = (values.monitor ?? []).map(text => {
    const pairs = parseKeyValues(text, 'chardev');
    const chardev = pairs.get('chardev') ?? '';
    const path = sockets.get(chardev);
    if (path === undefined) throw new CommandLineError(`chardev '${chardev}' not found`);
    return { path, pretty: pairs.get('pretty') === 'on' };
  });
  return { monitors };
}
