// Goal: docs/ERRORS.md tells of every code what there is to know, and of none that there is not. Method: read its
// tables, and compare them with the catalogue both ways.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { ERROR_CODES, type ErrorCode } from '@tidemark/proto';
import { expect, test } from 'vitest';
import { rootFolder } from './setup/find-node.mjs';

const text = readFileSync(join(rootFolder, 'docs/ERRORS.md'), 'utf8');
const rows = text
  .split('\n')
  .filter(line => line.startsWith('| `'))
  .map(line => line.split('|').slice(1, -1))
  .map(cells => cells.map(cell => cell.trim()));

const written = (code: string, { title, http, grpc, retryable }: (typeof ERROR_CODES)[ErrorCode]) =>
  [`\`${code}\``, title, String(http), status[grpc], retryable ? 'yes' : 'no'].join(' | ');

test('the document and the catalogue have the same codes, with the same titles and statuses', () => {
  const catalogue = Object.entries(ERROR_CODES).map(([code, entry]) => written(code, entry));
  expect(rows.map(cells => cells.slice(0, 5).join(' | ')).sort()).toEqual(catalogue.sort());
});

test('every code says what it means and what to do, each in words of its own', () => {
  for (const [code, , , , , meaning, next, ...rest] of rows) {
    expect(meaning, code).toMatch(/\w+ \w+/);
    expect(next, code).toMatch(/\w/);
    expect(rest, code).toEqual([]);
  }
  const meanings = rows.map(cells => cells[5]);
  expect(new Set(meanings).size).toBe(meanings.length);
});
