// Rules that look at one file: lengths, leftovers, calls that belong elsewhere, words that belong nowhere.

import { type CodeFile, lineOf, type TextFile } from './source-files.ts';

/** Code is formatted to 110; texts that people read and comments may be a little longer. */
const LINE_CHARACTERS_MAX = 120;
const FILE_LINES_MAX = 400;
const FUNCTION_LINES_MAX = 69;

/** Spelled apart, so that this file passes its own test. */
const LEFTOVERS = new RegExp(`\\b(${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX'].join('|')})\\b`);
const PRIVATE_WORDS: [pattern: RegExp, reason: string][] = [
  [new RegExp('/wo' + 'rk/'), 'a path of one machine means nothing elsewhere'],
  [new RegExp(['registry', 'npmjs'].join('\\.')), 'which registry is used is the user’s choice'],
];

/** An address cannot be broken, and a long one is still one thing to read. */
const UNBREAKABLE = /https?:\/\/\S{40,}/;

export function textFaults({ path, text }: TextFile): string[] {
  const faults: string[] = [];
  const lines = text.split('\n');
  lines.forEach((line, index) => {
    const at = `${path}:${index + 1}`;
    if (LEFTOVERS.test(line)) faults.push(`${at} has a leftover: do it now, or write an issue`);
    for (const [pattern, reason] of PRIVATE_WORDS) {
      if (pattern.test(line)) faults.push(`${at} has ${pattern.source}: ${reason}`);
    }
  });
  return faults;
}

export function lengthFaults(file: CodeFile): string[] {
  const { path, text } = file;
  const lines = text.trimEnd().split('\n');
  const faults = lines.flatMap((line, index) =>
    line.length > LINE_CHARACTERS_MAX && !UNBREAKABLE.test(line)
      ? [`${path}:${index + 1} has ${line.length} characters: the most is ${LINE_CHARACTERS_MAX}`]
      : [],
  );
  if (lines.length > FILE_LINES_MAX) {
    faults.push(`${path} has ${lines.length} lines: the most is ${FILE_LINES_MAX}, split it by subject`);
  }
  for (const { node, name } of functionsOf(file)) {
    const length = lineOf(text, node.end) - lineOf(text, node.start) + 1;
    if (length <= FUNCTION_LINES_MAX) continue;
    const at = `${path}:${lineOf(text, node.start)}`;
    faults.push(`${at} function ${name} has ${length} lines: the most is ${FUNCTION_LINES_MAX}`);
  }
  return faults;
}

interface Node {
  type: string;
  start: number;
  end: number;
  [key: string]: unknown;
}

function functionsOf(file: CodeFile): { node: Node; name: string }[] {
  const found: { node: Node; name: string }[] = [];
  visit(file.program as unknown as Node, (node, parents) => {
    if (!/Function/.test(node.type) || node.type === 'TSFunctionType') return;
    const parent = parents.at(-1);
    // The callback of `describe` is a heading, not a function.
    if (file.isTest && parent?.type === 'CallExpression') {
      const call = file.text.slice(parent.start, parent.start + 'describe'.length);
      if (call === 'describe') return;
    }
    const named = (node.id ?? parent?.key ?? parent?.id) as { name?: string } | undefined;
    const name = named?.name ?? '(nameless)';
    if (file.isTest && name.startsWith('describe')) return; // holds tests, as the callback of describe does
    found.push({ node, name });
  });
  return found;
}

/** Calls `look` with every node and the nodes around it, outermost first. */
function visit(node: Node, look: (node: Node, parents: Node[]) => void, parents: Node[] = []): void {
  look(node, parents);
  const around = [...parents, node];
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (child !== null && typeof child === 'object' && typeof (child as Node).type === 'string') {
        visit(child as Node, look, around);
      }
    }
  }
}

interface Ban {
  /** As written in code. */
  use: string;
  allowed: RegExp;
  reason: string;
}

const TIME_AND_CHANCE = /^apps\/|^scripts\/|\/clock\.ts$/;
const BANS: Ban[] = [
  {
    use: 'process.env',
    allowed: /\/(config|main)\.ts$|prisma\.config\.ts$|^scripts\//,
    reason: 'settings are read once, by config.ts',
  },
  { use: 'Date.now', allowed: TIME_AND_CHANCE, reason: 'packages are given the clock' },
  { use: 'Math.random', allowed: TIME_AND_CHANCE, reason: 'packages are given their randomness' },
  { use: 'console.*', allowed: /^apps\/cli\/|^scripts\//, reason: 'services log through their logger' },
];

export function banFaults(file: CodeFile): string[] {
  if (file.isTest) return [];
  const bans = BANS.filter(ban => !ban.allowed.test(file.path));
  const faults: string[] = [];
  visit(file.program as unknown as Node, node => {
    if (node.type !== 'MemberExpression') return;
    const object = (node.object as { name?: string }).name;
    const property = (node.property as { name?: string }).name;
    const ban = bans.find(({ use }) => use === `${object}.${property}` || use === `${object}.*`);
    if (ban)
      faults.push(`${file.path}:${lineOf(file.text, node.start)} uses ${object}.${property}: ${ban.reason}`);
  });
  return faults;
}
