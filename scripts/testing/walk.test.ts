// Goal: a walk is read as it stands, and output that differs is noticed. Method: small documents.
import { expect, test } from 'vitest';
import { fits, readWalk } from './walk.ts';

const sh = (text: string, more = '') => `\`\`\`sh${more}\n${text}\n\`\`\``;

test('commands are read with what they print', () => {
  const text = ['# A walk', sh('start', ' in=background'), 'Then', sh('one\ntwo'), '```text\na\n…\n```'].join(
    '\n',
  );
  expect(readWalk(text)).toEqual([
    { commands: 'start', inBackground: true, output: null, line: 3 },
    { commands: 'one\ntwo', inBackground: false, output: ['a', '…'], line: 7 },
  ]);
});

test('a block without an end, and output of nothing, are refused', () => {
  expect(() => readWalk('```sh\nls')).toThrow('line 1 does not end');
  expect(() => readWalk('```text\nls\n```')).toThrow('output of nothing');
});

test.each([
  ['a b\nc\n', ['a b', 'c'], true],
  ['a    b  \nc\n', ['a b', 'c'], true],
  ['a b\nx\ny\nc\n', ['a b', '…', 'c'], true],
  ['id 17 ready now\n', ['id … ready …'], true],
  ['id 17 failed now\n', ['id … ready …'], false],
  ['c\na b\n', ['…', 'a b', 'c'], false],
  ['1.5 (x)\n', ['1.5 (x)'], true],
  ['115 (x)\n', ['1.5 (x)'], false],
])('%j beside %j: %s', (printed, expected, equal) => {
  expect(fits(printed, expected)).toBe(equal);
});
