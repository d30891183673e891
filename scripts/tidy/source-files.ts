// Reads the project's own text: what git has, or, where there is no git, the folder without what is installed
// or generated.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseSync } from 'rolldown/utils';
import { rootFolder } from '../setup/find-node.mjs';

const NOT_OURS = new Set(['node_modules', '.git', '.tidemark', '.turbo', 'coverage', 'generated']);
const CODE = /\.m?ts$|\.mjs$/;
/** A binary file or a lock file is not prose or code of ours. */
const NOT_TEXT = /package-lock\.json$|\.(png|jpg|gz|qcow2|img|bin)$|^LICENSE$/;

export interface TextFile {
  /** Relative to the project folder. */
  path: string;
  text: string;
}

type Parsed = ReturnType<typeof parseSync>;

export interface CodeFile extends TextFile {
  program: Parsed['program'];
  comments: Parsed['comments'];
  module: Parsed['module'];
  isTest: boolean;
}

function listed(): string[] {
  const git = spawnSync('git', ['ls-files', '-z'], { cwd: rootFolder, encoding: 'utf8' });
  const paths = git.status === 0 && git.stdout !== '' ? git.stdout.split('\0').filter(Boolean) : walk('');
  return paths.filter(path => existsSync(join(rootFolder, path)));
}

function walk(folder: string): string[] {
  return readdirSync(join(rootFolder, folder), { withFileTypes: true }).flatMap(entry => {
    const path = join(folder, entry.name);
    if (NOT_OURS.has(entry.name)) return [];
    return entry.isDirectory() ? walk(path) : [path];
  });
}

/** All text files, generated ones left out. */
export function readTexts(): TextFile[] {
  return listed()
    .filter(path => !NOT_TEXT.test(path) && !path.includes('/generated/'))
    .filter(path => statSync(join(rootFolder, path)).isFile())
    .map(path => ({ path, text: readFileSync(join(rootFolder, path), 'utf8') }));
}

/** The code among them, parsed. Throws when a file does not parse. */
export function parseCode(files: readonly TextFile[]): CodeFile[] {
  return files.filter(file => CODE.test(file.path)).map(parseFile);
}

export function parseFile({ path, text }: TextFile): CodeFile {
  const { program, comments, module, errors } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path}: ${errors[0]?.message}`);
  const isTest = /\.test\.ts$|(^|\/)(test|testing|tidy)\//.test(path);
  return { path, text, program, comments, module, isTest };
}

/** 1 for the first. */
export function lineOf(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf('\n'); at !== -1 && at < offset; at = text.indexOf('\n', at + 1)) line += 1;
  return line;
}
