// Labels of storage nodes, volumes and repositories, and the selectors that choose by them. A selector is text: terms
// joined by commas, of which all must hold.
import { TidemarkError } from './errors.ts';

export type Labels = Readonly<Record<string, string>>;

export const LABELS_MAX = 32;
export const LABEL_KEY_PATTERN = '[a-z0-9](?:[a-z0-9._/-]{0,61}[a-z0-9])?';
export const LABEL_VALUE_PATTERN = '[A-Za-z0-9._-]{0,63}';

/** A selector is part of a query string, and each term a condition of a statement. */
export const SELECTOR_CHARACTERS_MAX = 2_048;
const SELECTOR_TERMS_MAX = 32;

export type SelectorTerm =
  | { readonly key: string; readonly op: 'in' | 'notin'; readonly values: readonly string[] }
  | { readonly key: string; readonly op: 'exists' }
  | { readonly key: string; readonly op: 'absent' };

/** All terms must hold; none: everything is chosen. */
export type Selector = readonly SelectorTerm[];

const KEY = new RegExp(`^${LABEL_KEY_PATTERN}$`);
const VALUE = new RegExp(`^${LABEL_VALUE_PATTERN}$`);
const COMPARISON = /^([^!=\s]+)\s*(!?=)\s*(\S*)$/;
const MEMBERSHIP = /^(\S+)\s+(in|notin)\s*\(([^()]*)\)$/;

/** What is wrong with the labels, in words that follow on "labels"; null: nothing. */
export function labelsFault(labels: Labels): string | null {
  const entries = Object.entries(labels);
  if (entries.length > LABELS_MAX) return `has ${entries.length} keys; give at most ${LABELS_MAX}`;
  for (const [key, value] of entries) {
    if (!KEY.test(key)) {
      return (
        `has the key ${JSON.stringify(key)}; a key is 1 to 63 small letters, digits, '.', '_', '/' or '-', ` +
        'beginning and ending with a letter or digit'
      );
    }
    if (!VALUE.test(value)) {
      return (
        `has the value ${JSON.stringify(value)} for key '${key}'; a value is at most 63 letters, digits, ` +
        "'.', '_' or '-'"
      );
    }
  }
  return null;
}

/** None of what another process says where not all of it is sound. */
export function soundLabels(labels: Labels): Labels {
  return labelsFault(labels) === null ? labels : {};
}

interface Place {
  readonly text: string;
  /** From 1. */
  readonly character: number;
}

/** Commas within brackets do not end a term. */
function splitTerms(text: string): Place[] {
  const terms: Place[] = [];
  let start = 0;
  let depth = 0;
  for (let at = 0; at <= text.length; at += 1) {
    const sign = text[at];
    if (sign === '(') depth += 1;
    if (sign === ')') depth = Math.max(0, depth - 1);
    if (at < text.length && (sign !== ',' || depth > 0)) continue;
    const term = text.slice(start, at);
    const lead = term.length - term.trimStart().length;
    terms.push({ text: term.trim(), character: start + lead + 1 });
    start = at + 1;
  }
  return terms;
}

function fault({ text, character }: Place, what: string): TidemarkError {
  return new TidemarkError(
    'invalid-request',
    `The selector is not valid at character ${character}: ${JSON.stringify(text)} ${what}. Terms are key=value, ` +
      'key!=value, key in (a,b), key notin (a,b), key and !key, joined by commas.',
  );
}

function parseTerm(place: Place): SelectorTerm {
  const checkedKey = (key: string) => {
    if (KEY.test(key)) return key;
    throw fault(place, `names ${JSON.stringify(key)}, which is no key of a label`);
  };
  const checkedValue = (value: string) => {
    if (VALUE.test(value)) return value;
    throw fault(place, `names ${JSON.stringify(value)}, which is no value of a label`);
  };
  const { text } = place;
  if (text === '') throw fault(place, 'is empty');
  const member = MEMBERSHIP.exec(text);
  if (member) {
    const values = member[3]!.split(',').map(value => checkedValue(value.trim()));
    return { key: checkedKey(member[1]!), op: member[2] as 'in' | 'notin', values };
  }
  const compared = COMPARISON.exec(text);
  if (compared) {
    const op = compared[2] === '=' ? 'in' : 'notin';
    return { key: checkedKey(compared[1]!), op, values: [checkedValue(compared[3]!)] };
  }
  if (text.startsWith('!')) return { key: checkedKey(text.slice(1).trim()), op: 'absent' };
  return { key: checkedKey(text), op: 'exists' };
}

/** Empty text chooses everything. Throws `invalid-request`, naming the place in the text. */
export function parseSelector(text: string): Selector {
  if (text.length > SELECTOR_CHARACTERS_MAX) {
    const message = `The selector has ${text.length} characters. Send at most ${SELECTOR_CHARACTERS_MAX}.`;
    throw new TidemarkError('invalid-request', message);
  }
  if (text.trim() === '') return [];
  const terms = splitTerms(text);
  if (terms.length > SELECTOR_TERMS_MAX) {
    const message = `The selector has ${terms.length} terms. Send at most ${SELECTOR_TERMS_MAX}.`;
    throw new TidemarkError('invalid-request', message);
  }
  return terms.map(parseTerm);
}

function termHolds(term: SelectorTerm, labels: Labels): boolean {
  const value = Object.hasOwn(labels, term.key) ? labels[term.key] : undefined;
  if (term.op === 'exists') return value !== undefined;
  if (term.op === 'absent') return value === undefined;
  const listed = value !== undefined && term.values.includes(value);
  return term.op === 'in' ? listed : !listed;
}

/** `key!=value` and `key notin (…)` hold, too, where the key is absent. */
export function matchesSelector(selector: Selector, labels: Labels): boolean {
  return selector.every(term => termHolds(term, labels));
}

/** Text that parses to the same selector. */
export function selectorText(selector: Selector): string {
  const terms = selector.map(term => {
    if (term.op === 'exists') return term.key;
    if (term.op === 'absent') return `!${term.key}`;
    const { key, op, values } = term;
    if (values.length === 1) return `${key}${op === 'in' ? '=' : '!='}${values[0]}`;
    return `${key} ${op} (${values.join(',')})`;
  });
  return terms.join(',');
}
