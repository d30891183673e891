// Goal: a set-up step is repeated exactly when what it was done for has changed. Method: temporary project
// folders with hand-made npm records.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { dependenciesMatch, fingerprint, readStamp, writeStamp } from './stamp.mjs';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'tidemark-stamp-'));
  mkdirSync(join(root, 'node_modules'));
});

afterEach(() => rmSync(root, { recursive: true }));

type Entries = Record<string, object>;

function records(wanted: Entries, present: Entries | null): void {
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ packages: wanted }));
  if (present === null) return;
  writeFileSync(join(root, 'node_modules', '.package-lock.json'), JSON.stringify({ packages: present }));
}

const a1 = { version: '1.0.0', integrity: 'sha512-a1' };
const a2 = { version: '2.0.0', integrity: 'sha512-a2' };
const here = { ...a1, optional: true, os: ['linux'], cpu: [process.arch] };
const elsewhere = { ...a1, optional: true, os: ['darwin'], cpu: ['arm64'] };

test.each<[string, Entries, Entries | null, boolean]>([
  ['never installed', { 'node_modules/a': a1 }, null, false],
  ['the same', { '': {}, 'apps/x': {}, 'node_modules/a': a1 }, { 'node_modules/a': a1 }, true],
  ['another version', { 'node_modules/a': a2 }, { 'node_modules/a': a1 }, false],
  [
    'same version, other content',
    { 'node_modules/a': { ...a1, integrity: 'x' } },
    { 'node_modules/a': a1 },
    false,
  ],
  ['one missing', { 'node_modules/a': a1, 'node_modules/b': a1 }, { 'node_modules/a': a1 }, false],
  ['optional, for another platform', { 'node_modules/a': elsewhere }, {}, true],
  ['optional, for this platform', { 'node_modules/a': here }, {}, false],
  ['optional, for any platform', { 'node_modules/a': { ...a1, optional: true } }, {}, true],
])('dependencies: %s', (_name, wanted, present, match) => {
  records(wanted, present);
  expect(dependenciesMatch(root)).toBe(match);
});

test('a record cut short by a kill counts as not installed', () => {
  records({ 'node_modules/a': a1 }, null);
  writeFileSync(join(root, 'node_modules', '.package-lock.json'), '{"packages": {"node_mod');
  expect(dependenciesMatch(root)).toBe(false);
});

test('stamps of several steps live side by side, and go with node_modules', () => {
  expect(readStamp(root)).toEqual({});
  writeStamp(root, 'dependencies', 'one');
  writeStamp(root, 'catalog', 'two');
  writeStamp(root, 'dependencies', 'three');
  expect(readStamp(root)).toEqual({ dependencies: 'three', catalog: 'two' });
  rmSync(join(root, 'node_modules'), { recursive: true });
  expect(readStamp(root)).toEqual({});
});

test('a fingerprint changes with content, name and presence', () => {
  const file = join(root, 'file');
  const missing = fingerprint([file]);
  writeFileSync(file, 'one');
  const one = fingerprint([file]);
  expect(fingerprint([file])).toBe(one);
  writeFileSync(file, 'two');
  expect(new Set([missing, one, fingerprint([file]), fingerprint([file, 'more'])]).size).toBe(4);
});
