// `key=value,…` of the command line as QEMU reads it: keys with dots make objects, keys of digits make lists.
import { genericError } from './qmp-error.ts';

/** Texts at the ends; lists are arrays. */
export type KeyValues = { [key: string]: string | KeyValues | KeyValueList };
type KeyValueList = (string | KeyValues | KeyValueList)[];

/** Of one part of a key: a name, or an index. */
const FRAGMENT = /^(?:[A-Za-z][A-Za-z0-9_-]*|[0-9]+)$/;
const INDEX = /^[0-9]+$/;
/** Bound of a part of a key, QEMU's own. */
const FRAGMENT_LENGTH_MAX = 127;

/**
 * The first value may stand without its key where the option has an implied one; a doubled comma stands for
 * one in a value; of a key that is given twice the last counts. Throws `QmpError`.
 */
export function parseKeyValues(text: string, impliedKey?: string): KeyValues {
  const root: KeyValues = Object.create(null);
  let first = impliedKey !== undefined;
  for (let rest = text; rest !== ''; first = false) {
    const plainEnd = rest.search(/[=,]/);
    const isPlain = plainEnd < 0 || rest[plainEnd] === ',';
    if (isPlain && first && plainEnd !== 0) {
      const { value, after } = takeValue(rest);
      assertNoHelp(value);
      root[impliedKey!] = value;
      rest = after;
      continue;
    }
    const key = plainEnd < 0 ? rest : rest.slice(0, plainEnd);
    const path = splitKey(key);
    if (isPlain) {
      assertNoHelp(key);
      throw genericError(`Expected '=' after parameter '${key}'`);
    }
    const { value, after } = takeValue(rest.slice(plainEnd + 1));
    put(root, path, value);
    rest = after;
  }
  return withLists(root, '') as KeyValues;
}

function assertNoHelp(word: string): void {
  if (word === 'help' || word === '?') throw genericError('Help is not available for this option');
}

/** Up to a comma that stands alone. */
function takeValue(text: string): { value: string; after: string } {
  const [raw] = /^(?:[^,]|,,)*/.exec(text)!;
  return { value: raw.replaceAll(',,', ','), after: text.slice(raw.length + 1) };
}

function splitKey(key: string): string[] {
  const path = key.split('.');
  const isSound = path.every(part => FRAGMENT.test(part) && part.length <= FRAGMENT_LENGTH_MAX);
  if (!isSound || INDEX.test(path[0]!)) throw genericError(`Invalid parameter '${key}'`);
  return path;
}

function put(root: KeyValues, path: readonly string[], value: string): void {
  let at = root;
  for (const [depth, part] of path.slice(0, -1).entries()) {
    at[part] ??= Object.create(null) as KeyValues;
    const next = at[part];
    if (typeof next === 'string') throw inconsistent(path.slice(0, depth + 1));
    at = next as KeyValues;
  }
  const last = path.at(-1)!;
  if (typeof at[last] === 'object') throw inconsistent(path);
  at[last] = value;
}

function inconsistent(path: readonly string[]): Error {
  return genericError(`Parameters '${path.join('.')}.*' used inconsistently`);
}

/** Objects whose keys are all numbers become lists, from the innermost outwards. */
function withLists(values: KeyValues, prefix: string): KeyValues | KeyValueList {
  const keys = Object.keys(values);
  for (const key of keys) {
    const inner = values[key]!;
    if (typeof inner === 'object') values[key] = withLists(inner as KeyValues, `${prefix}${key}.`);
  }
  const indexes = keys.filter(key => INDEX.test(key));
  if (indexes.length === 0) return values;
  if (indexes.length < keys.length) throw inconsistent(prefix.split('.').slice(0, -1));
  return keys.map((_, index) => {
    const value = values[String(index)];
    if (value === undefined) throw genericError(`Parameter '${prefix}${index}' missing`);
    return value;
  });
}
