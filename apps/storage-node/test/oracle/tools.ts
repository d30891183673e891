// The programs that the suite needs.
import { spawnSync } from 'node:child_process';

const TOOLS = ['qemu-storage-daemon', 'qemu-img', 'qemu-io', 'nbdinfo'];
let missing: readonly string[] | undefined;

export function missingTools(): readonly string[] {
  missing ??= TOOLS.filter(tool => spawnSync(tool, ['--version']).error !== undefined);
  return missing;
}
