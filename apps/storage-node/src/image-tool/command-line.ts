// Options and operands of a command, in any order, as getopt reads them: `-f raw`, `-fraw`, `-qp`, `--output=json`.
import { usageError } from './tool-error.ts';

/** Option to whether it has a value. Short ones have one letter. */
export type OptionTable = Readonly<Record<string, 'flag' | 'value'>>;

export interface CommandLine {
  readonly operands: readonly string[];
  /** In the order in which they were given. */
  readonly given: readonly { readonly name: string; readonly value: string | undefined }[];
  has(name: string): boolean;
  /** The last one counts. */
  value(name: string): string | undefined;
}

/** Options of one meaning, under the name that commands ask for. */
const ALIASES: Readonly<Record<string, string>> = { 'force-share': 'U', help: 'h' };

const COMMON: OptionTable = {
  h: 'flag',
  help: 'flag',
  U: 'flag',
  'force-share': 'flag',
  object: 'value',
  'image-opts': 'flag',
};

/** Throws a usage error for options that nobody knows. */
export function parseCommandLine(words: readonly string[], own: OptionTable): CommandLine {
  const table: OptionTable = { ...COMMON, ...own };
  const operands: string[] = [];
  const given: { name: string; value: string | undefined }[] = [];
  const rest = [...words];
  const take = (name: string, inline: string | undefined, word: string) => {
    const kind = Object.hasOwn(table, name) ? table[name] : undefined;
    if (kind === undefined) throw usageError(`unrecognized option '${word}'`);
    const value = kind === 'flag' ? undefined : (inline ?? rest.shift());
    if (kind === 'value' && value === undefined) throw usageError(`option '${word}' requires an argument`);
    if (kind === 'flag' && inline !== undefined) throw usageError(`option '${word}' takes no argument`);
    given.push({ name: ALIASES[name] ?? name, value });
  };
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--') operands.push(...rest.splice(0));
    else if (word.startsWith('--')) {
      const [name, ...value] = word.slice(2).split('=');
      take(name!, value.length === 0 ? undefined : value.join('='), word);
    } else if (word.startsWith('-') && word.length > 1) {
      for (let letters = word.slice(1); letters !== ''; ) {
        const name = letters[0]!;
        letters = letters.slice(1);
        const inline = table[name] === 'value' && letters !== '' ? letters : undefined;
        take(name, inline, `-${name}`);
        if (inline !== undefined) break;
      }
    } else operands.push(word);
  }
  return {
    operands,
    given,
    has: name => given.some(option => option.name === name),
    value: name => given.findLast(option => option.name === name)?.value,
  };
}

/** `key=value,…`, a comma in a value doubled. Throws where a part is none. */
export function parseKeyValues(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const part of text.replaceAll(',,', '\0').split(',')) {
    if (part === '') continue;
    const [key, ...value] = part.split('=');
    // As in QEMU, an option alone means that it is on.
    values.set(key!, value.length === 0 ? 'on' : value.join('=').replaceAll('\0', ','));
  }
  return values;
}
