// The directions of "Packages and who may import whom" in docs/ARCHITECTURE.md, each with its reason; and
// what follows from the graph: no cycles, no file that nothing uses.

import { dirname, join, normalize } from 'node:path';
import { type Import, type readWorkspaces, workspaceOf } from './import-graph.ts';
import type { CodeFile } from './source-files.ts';

/** Workspace → the workspaces it may import, and why no other. */
const MAY_IMPORT: Record<string, [allowed: string[], reason: string]> = {
  'packages/engine': [[], 'the engine works on files only: no network, no service'],
  'packages/nbd': [[], 'the protocol knows nothing of the engine: an export is a small interface'],
  'packages/proto': [[], 'what crosses a process depends on neither side'],
  'packages/catalog': [['packages/proto'], 'the catalog is a store, it calls nobody'],
  'packages/client': [[], 'whoever uses the REST API needs nothing else of ours'],
  'apps/storage-node': [
    ['packages/engine', 'packages/nbd', 'packages/proto'],
    'a storage node serves its guests without catalog and without other services',
  ],
  'apps/worker': [['packages/proto', 'packages/catalog'], 'bytes belong to storage nodes, apps meet by gRPC'],
  'apps/api': [
    ['packages/proto', 'packages/catalog'],
    'bytes belong to storage nodes, apps meet by the queue',
  ],
  'apps/cli': [['packages/client'], 'the command uses the REST API and nothing else'],
};

/** What tests may import besides: the other side of a contract, to be tested against the real thing. */
const TESTS_MAY_IMPORT: Record<string, string[]> = {
  'apps/cli': ['apps/api', 'packages/catalog'],
  // For its certificates.
  'packages/client': ['packages/proto'],
};

/** Inside the engine, lower never imports higher. Files beside these folders are the ground they stand on. */
const ENGINE_LAYERS = ['file', 'bitmap', 'node', 'image', 'graph', 'copy', 'filter', 'job', 'transaction'];

/** Files that are started, or found by their name. */
const ENTRIES = [
  /\/(main|index)\.ts$/,
  /\.(test|config)\.ts$/,
  /\.d\.mts$/,
  /\/bin\/[^/]+\.mjs$/,
  /^scripts\/(setup\.mjs|(generate|openapi-document)\.ts)$/,
  /^scripts\/docker\//,
  /\/test\/oracle\/planted-defects\/[^/]+\.ts$/,
];

export function directionFaults(found: Import, workspaces: ReturnType<typeof readWorkspaces>): string[] {
  const { from, specifier, line } = found;
  const at = `${from.path}:${line} imports ${specifier}`;
  const here = workspaceOf(from.path);
  if (here === 'scripts' || here === '') return [];
  if (specifier.startsWith('.')) {
    const there = workspaceOf(normalize(join(dirname(from.path), specifier)));
    const helper = there === 'scripts' && (from.isTest || from.path.includes('/bin/'));
    if (there === here || helper) return engineFaults(found, at);
    return [`${at}: another workspace is imported by its name, through its exports`];
  }
  const name = /^@tidemark\/[^/]+/.exec(specifier)?.[0];
  if (name === undefined) return [];
  const target = workspaces.get(name);
  if (!target) return [`${at}: there is no such workspace`];
  const [allowed, reason] = MAY_IMPORT[here] ?? [[], 'add the workspace to import-rules.ts'];
  const forTests = from.isTest ? (TESTS_MAY_IMPORT[here] ?? []) : [];
  if (![...allowed, ...forTests].includes(target.folder)) return [`${at}: ${reason}`];
  if (found.target === null) return [`${at}: past the exports of ${name}, which are its only doors`];
  if (specifier.endsWith('/testing') && !from.isTest) return [`${at}: test helpers are for tests`];
  return [];
}

function engineFaults({ from, target }: Import, at: string): string[] {
  if (target === null || !from.path.startsWith('packages/engine/src/') || from.isTest) return [];
  const [here, there] = [layerOf(from.path), layerOf(target)];
  if (there === 'testing') return [`${at}: test helpers are for tests`];
  if (here === null || there === null) return [];
  const [low, high] = [ENGINE_LAYERS.indexOf(here), ENGINE_LAYERS.indexOf(there)];
  if (low === -1 || high === -1)
    return [`${at}: its folder has no place among the layers in import-rules.ts`];
  return high > low ? [`${at}: inside the engine lower never imports higher (${here} < ${there})`] : [];
}

/** Null for a file beside the folders: index.ts, which may import all, and the ground that all may import. */
function layerOf(path: string): string | null {
  return /^packages\/engine\/src\/([^/]+)\//.exec(path)?.[1] ?? null;
}

/** The ground of the engine imports no layer. */
export function groundFaults({ from, line, target }: Import): string[] {
  if (!/^packages\/engine\/src\/[^/]+\.ts$/.test(from.path) || from.path.endsWith('/index.ts')) return [];
  if (from.isTest || target === null || layerOf(target) === null) return [];
  return [`${from.path}:${line} imports ${target}: errors, limits and units stand below every layer`];
}

/** Cycles of imports that run code, each once, as the files on it. */
export function cycleFaults(imports: readonly Import[]): string[] {
  const next = new Map<string, Set<string>>();
  for (const { from, target, typeOnly } of imports) {
    if (target === null || typeOnly || target === from.path || from.isTest) continue;
    next.set(from.path, (next.get(from.path) ?? new Set()).add(target));
  }
  const faults: string[] = [];
  const done = new Set<string>();
  const walk = (path: string, trail: string[]): void => {
    const index = trail.indexOf(path);
    if (index !== -1) {
      const cycle = [...trail.slice(index), path].join(' → ');
      faults.push(`cycle: ${cycle}: whoever is loaded first finds the other half-made`);
      return;
    }
    if (done.has(path)) return;
    for (const target of next.get(path) ?? []) walk(target, [...trail, path]);
    done.add(path);
  };
  for (const path of next.keys()) walk(path, []);
  return faults;
}

/** Files that no entry leads to. What only tests use must be a test helper. */
export function deadFaults(
  files: readonly CodeFile[],
  imports: readonly Import[],
  workspaces: ReturnType<typeof readWorkspaces>,
): string[] {
  const doors = [...workspaces.values()].flatMap(({ folder, exports }) =>
    [...exports.values()].map(file => normalize(join(folder, file))),
  );
  const used = new Set(doors);
  const usedByTests = new Set<string>();
  for (const { from, target } of imports) {
    if (target !== null && target !== from.path) (from.isTest ? usedByTests : used).add(target);
  }
  return files.flatMap(({ path, isTest }) => {
    if (ENTRIES.some(entry => entry.test(path)) || used.has(path)) return [];
    if (isTest && usedByTests.has(path)) return [];
    if (usedByTests.has(path)) return [`${path} is used by tests only: move it to testing/, or use it`];
    return [`${path} is used by nothing: remove it`];
  });
}
