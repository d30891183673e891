// Goal: docs/EVENTS.md tells of every kind of event that there is, and of no other. Method: compare its tables with
// the list that the catalog's events are typed by.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EVENT_KINDS } from '@tidemark/proto';
import { expect, test } from 'vitest';
import { rootFolder } from './setup/find-node.mjs';

test('the document and the list have the same kinds, with the same words', () => {
  const rows = readFileSync(join(rootFolder, 'docs/EVENTS.md'), 'utf8')
    .split('\n')
    .filter(line => line.startsWith('| `'))
    .map(line => line.split('|').slice(1, -1))
    .map(([kind, words]) => [kind!.trim().slice(1, -1), words!.trim()]);
  expect(Object.fromEntries(rows)).toEqual(EVENT_KINDS);
  expect(rows).toHaveLength(Object.keys(EVENT_KINDS).length);
});
