// The command line of qemu-storage-daemon(1): options in the order of their arrival, with nothing done yet.

/** Wrong use; the message is one line for standard error. */
export class CommandLineError extends Error {}

const OPTIONS = {
  blockdev: true,
  chardev: true,
  daemonize: false,
  export: true,
  help: false,
  monitor: true,
  'nbd-server': true,
  object: true,
  pidfile: true,
  version: false,
} as const;

export type OptionName = keyof typeof OPTIONS;
const NAMES = Object.keys(OPTIONS) as OptionName[];

const SHORT: Readonly<Record<string, OptionName>> = { h: 'help', V: 'version' };

export interface Option {
  readonly name: OptionName;
  /** Empty for options that take none. */
  readonly value: string;
  /** As it was written, for messages. */
  readonly text: string;
}

/** Names may be cut short as long as they are unique. Throws `CommandLineError`. */
export function parseCommandLine(args: readonly string[]): Option[] {
  const options: Option[] = [];
  for (let at = 0; at < args.length; at++) {
    const word = args[at]!;
    if (word === '--') break;
    if (/^-[^-]/.test(word)) {
      options.push(...shortOptions(word));
      continue;
    }
    if (!word.startsWith('--')) throw new CommandLineError(`${word}: Unexpected argument`);
    const [, given, inline] = /^--([^=]*)(?:=(.*))?$/s.exec(word)!;
    const name = findName(given!);
    if (!OPTIONS[name]) {
      if (inline !== undefined) {
        throw new CommandLineError(`option '--${name}' doesn't allow an argument`);
      }
      options.push({ name, value: '', text: word });
    } else if (inline !== undefined) options.push({ name, value: inline, text: word });
    else {
      const value = args[++at];
      if (value === undefined) throw new CommandLineError(`option '--${name}' requires an argument`);
      options.push({ name, value, text: `${word} ${value}` });
    }
  }
  return options;
}

function shortOptions(word: string): Option[] {
  return [...word.slice(1)].map(letter => {
    const name = SHORT[letter];
    if (name === undefined) throw new CommandLineError(`invalid option -- '${letter}'`);
    return { name, value: '', text: word };
  });
}

function findName(given: string): OptionName {
  const exact = NAMES.find(name => name === given);
  if (exact !== undefined) return exact;
  const [name, ...others] = given === '' ? [] : NAMES.filter(candidate => candidate.startsWith(given));
  if (name === undefined) throw new CommandLineError(`unrecognized option '--${given}'`);
  if (others.length === 0) return name;
  const all = [name, ...others].map(candidate => `'--${candidate}'`).join(' ');
  throw new CommandLineError(`option '--${given}' is ambiguous; possibilities: ${all}`);
}
