// The folder of one demo: made for it, removed after it, and removed by the next demo when it was killed.

import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { clearPostmaster } from '../postgres/postmaster.mjs';
import { liveHolder } from '../process/lock-file.mjs';
import { ChildRecord } from '../stack/children.ts';

const RUN_PREFIX = 'demo-run-';
const KEPT_PREFIX = 'demo-kept-';
/** A folder this young may be one whose demo has not taken its lock yet. */
const YOUNG_MS = 10_000;

/** Not by mkdtemp: its mode would shut out the user that PostgreSQL runs as when root starts it. */
export function makeHome(parent: string, { keep }: { keep: boolean }): string {
  const folder = join(parent, `${keep ? KEPT_PREFIX : RUN_PREFIX}${randomBytes(4).toString('hex')}`);
  mkdirSync(folder, { recursive: true });
  return folder;
}

export function removeHome(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

/** Ends the processes of demos that were killed, and removes their folders. Returns how many there were. */
export async function removeLeftovers(parent: string): Promise<number> {
  const names = readdirSync(parent, { withFileTypes: true })
    .filter(entry => entry.isDirectory() && entry.name.startsWith(RUN_PREFIX))
    .map(entry => entry.name);
  let removed = 0;
  for (const folder of names.map(name => join(parent, name))) {
    if (Date.now() - statSync(folder).mtimeMs < YOUNG_MS) continue;
    if (liveHolder(join(folder, 'stack.lock')) !== null) continue;
    await new ChildRecord(join(folder, 'children.json'), folder).stopOrphans();
    await clearPostmaster(join(folder, 'postgres'));
    removeHome(folder);
    removed += 1;
  }
  return removed;
}
