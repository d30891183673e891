// Goal: the project reads as if one person had written it. Method: every rule looks at all files that git
// has; a fault names the place and the reason. The rules prove on small samples that they find what they
// look for.
import { expect, test } from 'vitest';
import { importsOf, readWorkspaces } from './tidy/import-graph.ts';
import { cycleFaults, deadFaults, directionFaults, groundFaults } from './tidy/import-rules.ts';
import { type CodeFile, parseCode, parseFile, readTexts } from './tidy/source-files.ts';
import { banFaults, lengthFaults, textFaults } from './tidy/text-rules.ts';

const texts = readTexts();
const files = parseCode(texts);
const workspaces = readWorkspaces(texts.map(file => file.path));

function graph(code: readonly CodeFile[]) {
  const known = new Set(code.map(file => file.path));
  return code.flatMap(file => importsOf(file, workspaces, known));
}

const imports = graph(files);

test('lines, functions and files are short', () => {
  expect(files.flatMap(lengthFaults)).toEqual([]);
});

test('no leftovers, no words of one machine', () => {
  expect(texts.flatMap(textFaults)).toEqual([]);
});

test('environment, clock, chance and console are used where they belong', () => {
  expect(files.flatMap(banFaults)).toEqual([]);
});

test('imports follow the architecture', () => {
  expect(imports.flatMap(found => [...directionFaults(found, workspaces), ...groundFaults(found)])).toEqual(
    [],
  );
});

test('imports make no cycle', () => {
  expect(cycleFaults(imports)).toEqual([]);
});

test('every file is used', () => {
  expect(deadFaults(files, imports, workspaces)).toEqual([]);
});

const sample = (path: string, text: string): CodeFile => parseFile({ path, text });

test.each<[string, string, string]>([
  ['packages/engine/src/a.ts', `import { x } from '@tidemark/nbd';`, 'files only'],
  ['packages/nbd/src/a.ts', `import type { x } from '@tidemark/engine';`, 'knows nothing of the engine'],
  ['apps/api/src/a.ts', `import { x } from '@tidemark/engine';`, 'bytes belong to storage nodes'],
  ['apps/cli/src/a.ts', `export * from '@tidemark/proto';`, 'uses the REST API'],
  ['apps/api/src/a.ts', `import { x } from '@tidemark/catalog/src/run.ts';`, 'only doors'],
  ['apps/api/src/a.ts', `import { x } from '../../worker/src/worker.ts';`, 'by its name'],
  ['apps/api/src/a.ts', `const x = await import('../../worker/src/worker.ts');`, 'by its name'],
])('a wrong direction is found: %s %s', (path, text, reason) => {
  const found = graph([sample(path, text)]).flatMap(one => directionFaults(one, workspaces));
  expect(found).toHaveLength(1);
  expect(found[0]).toContain(reason);
});

test('an upward import inside the engine is found, a downward one is fine', () => {
  const low = sample('packages/engine/src/bitmap/a.ts', `import { b } from '../job/b.ts';`);
  const high = sample('packages/engine/src/job/b.ts', `import { a } from '../bitmap/a.ts';`);
  const ground = sample('packages/engine/src/units.ts', `import { a } from './bitmap/a.ts';`);
  const found = graph([low, high, ground]);
  expect(found.flatMap(one => directionFaults(one, workspaces))).toEqual([
    expect.stringContaining('lower never imports higher (bitmap < job)'),
  ]);
  expect(found.flatMap(groundFaults)).toEqual([expect.stringContaining('below every layer')]);
  expect(cycleFaults(found)).toHaveLength(1);
});

test('a cycle of types alone is no cycle', () => {
  const a = sample('apps/api/src/a.ts', `import type { b } from './b.ts'; export const a = 1;`);
  const b = sample('apps/api/src/b.ts', `import { a } from './a.ts'; export const b = a;`);
  expect(cycleFaults(graph([a, b]))).toEqual([]);
});

test('unused files are found, and files that only tests use', () => {
  const lonely = sample('apps/api/src/lonely.ts', '');
  const helper = sample('apps/api/src/helper.ts', '');
  const user = sample('apps/api/src/user.test.ts', `import './helper.ts';`);
  const code = [lonely, helper, user];
  expect(deadFaults(code, graph(code), workspaces)).toEqual([
    'apps/api/src/lonely.ts is used by nothing: remove it',
    expect.stringContaining('helper.ts is used by tests only'),
  ]);
});

test('long lines, functions and files are found', () => {
  const body = 'let x = 0;\n'.repeat(70);
  const long = sample('apps/api/src/a.ts', `function f() {\n${body}}\n// ${'a'.repeat(120)}\n`);
  expect(lengthFaults(long)).toEqual([
    expect.stringContaining('a.ts:73 has 123 characters'),
    expect.stringContaining('a.ts:1 function f has 72 lines'),
  ]);
  expect(lengthFaults(sample('apps/api/src/b.ts', `${'\n'.repeat(400)}x;`))).toHaveLength(1);
});

test('banned uses and leftovers are found', () => {
  const text = 'console.log(process.env.HOME, Date.now(), Math.random());';
  expect(banFaults(sample('packages/engine/src/a.ts', text))).toHaveLength(4);
  expect(banFaults(sample('apps/api/src/config.ts', text))).toEqual([expect.stringContaining('console.log')]);
  expect(banFaults(sample('apps/api/src/a.test.ts', text))).toEqual([]);
  expect(textFaults({ path: 'a.md', text: `a\n// ${'TO' + 'DO'} later` })).toEqual([
    expect.stringContaining('a.md:2'),
  ]);
});
