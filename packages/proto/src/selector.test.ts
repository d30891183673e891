// Goal: a selector chooses exactly what its text says, and faulty text is told of with its place. Method: a table of
// texts over labels, and texts that are written back and read again.
import { expect, test } from 'vitest';
import { TidemarkError } from './errors.ts';
import { labelsFault, matchesSelector, parseSelector, selectorText } from './selector.ts';

const labels = { app: 'web', tier: 'gold', 'example.org/zone': 'a-1', empty: '' };

test.each([
  ['', true],
  ['  ', true],
  ['app=web', true],
  ['app = web', true],
  ['app=db', false],
  ['app!=db', true],
  ['app!=web', false],
  ['missing!=x', true],
  ['missing=x', false],
  ['empty=', true],
  ['missing=', false],
  ['app in (db, web)', true],
  ['app in (db,mail)', false],
  ['app notin (db,mail)', true],
  ['app notin(web)', false],
  ['missing notin (x)', true],
  ['missing in (x)', false],
  ['app', true],
  ['missing', false],
  ['!app', false],
  ['!missing', true],
  ['example.org/zone=a-1', true],
  ['app=web,tier in (gold,silver),!missing', true],
  ['app=web,tier=silver', false],
  ['constructor', false],
])('%s', (text, chosen) => {
  const selector = parseSelector(text);
  expect(matchesSelector(selector, labels)).toBe(chosen);
  expect(parseSelector(selectorText(selector))).toEqual(selector);
});

test.each([
  ['app=web,', 'character 9'],
  [',app', 'character 1'],
  ['app=web,, tier', 'character 9'],
  ['app=we b', 'character 1'],
  ['app==web', 'character 1'],
  ['App=web', '"App"'],
  ['app=web, -x', 'character 10'],
  ['app in (a,b', 'character 1'],
  ['app in (a;b)', '"a;b"'],
  ["app=web') OR 1=1", 'character 1'],
  ['!', 'character 1'],
  ['x'.repeat(2_049), 'at most 2048'],
  [Array(33).fill('a').join(','), 'at most 32'],
])('%s is refused', (text, place) => {
  expect(() => parseSelector(text)).toThrow(TidemarkError);
  expect(() => parseSelector(text)).toThrow(place);
});

test('labels are judged by key, value and number', () => {
  expect(labelsFault(labels)).toBeNull();
  expect(labelsFault({})).toBeNull();
  expect(labelsFault({ Upper: 'x' })).toContain('"Upper"');
  expect(labelsFault({ 'ends-': 'x' })).toContain('"ends-"');
  expect(labelsFault({ ['k'.repeat(64)]: 'x' })).toContain('1 to 63');
  expect(labelsFault({ app: 'a b' })).toContain("for key 'app'");
  expect(labelsFault({ app: 'v'.repeat(64) })).toContain('at most 63');
  expect(labelsFault(Object.fromEntries(Array.from({ length: 33 }, (_, n) => [`k${n}`, ''])))).toContain(
    '33',
  );
});
