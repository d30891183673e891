// Who imports whom: every import of every code file, resolved to a file of the project where it is one.

import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { rootFolder } from '../setup/find-node.mjs';
import { type CodeFile, lineOf } from './source-files.ts';

export interface Import {
  from: CodeFile;
  line: number;
  /** As written. */
  specifier: string;
  /** Path of the imported file; null for Node's own modules, other packages and generated code. */
  target: string | null;
  /** Erased: no code runs because of it. */
  typeOnly: boolean;
}

/** `packages/engine`, `apps/api`, `scripts`, or `''` for the root. */
export function workspaceOf(path: string): string {
  return /^(packages|apps)\/[^/]+/.exec(path)?.[0] ?? (path.startsWith('scripts/') ? 'scripts' : '');
}

/** Package name → folder and export map of each workspace. */
export function readWorkspaces(
  paths: readonly string[],
): Map<string, { folder: string; exports: Map<string, string> }> {
  const manifests = paths.filter(path => /^(packages|apps)\/[^/]+\/package\.json$/.test(path));
  return new Map(
    manifests.map(path => {
      const manifest = JSON.parse(readFileSync(join(rootFolder, path), 'utf8')) as {
        name: string;
        exports?: Record<string, string>;
      };
      return [
        manifest.name,
        { folder: dirname(path), exports: new Map(Object.entries(manifest.exports ?? {})) },
      ];
    }),
  );
}

export function importsOf(
  file: CodeFile,
  workspaces: ReturnType<typeof readWorkspaces>,
  known: ReadonlySet<string>,
): Import[] {
  const found: { specifier: string; start: number; typeOnly: boolean }[] = [];
  for (const { moduleRequest, entries, start } of file.module.staticImports) {
    const typeOnly = entries.length > 0 && entries.every(entry => entry.isType);
    found.push({ specifier: moduleRequest.value, start, typeOnly });
  }
  for (const { entries, start } of file.module.staticExports) {
    for (const { moduleRequest, isType } of entries) {
      if (moduleRequest) found.push({ specifier: moduleRequest.value, start, typeOnly: isType });
    }
  }
  // Dynamic imports, and files named by URL: programs that are started, not imported.
  for (const match of file.text.matchAll(/(?:\bimport|new URL)\(\s*'([^'\s]+)'/g)) {
    found.push({ specifier: match[1]!, start: match.index, typeOnly: false });
  }
  return found.map(({ specifier, start, typeOnly }) => ({
    from: file,
    line: lineOf(file.text, start),
    specifier,
    typeOnly,
    target: resolveTarget(file.path, specifier, workspaces, known),
  }));
}

function resolveTarget(
  from: string,
  specifier: string,
  workspaces: ReturnType<typeof readWorkspaces>,
  known: ReadonlySet<string>,
): string | null {
  if (specifier.startsWith('.')) {
    const path = normalize(join(dirname(from), specifier));
    return known.has(path) ? path : null;
  }
  const [, name = '', rest = ''] = /^(@tidemark\/[^/]+)(.*)$/.exec(specifier) ?? [];
  const workspace = workspaces.get(name);
  const file = workspace?.exports.get(`.${rest}`);
  return workspace && file ? normalize(join(workspace.folder, file)) : null;
}
