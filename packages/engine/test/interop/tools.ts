// Runs the installed qemu tools for tests. Where one is missing a test is skipped with that reason, except
// in CI, where it fails.
import { execFileSync, spawnSync } from 'node:child_process';
import { test } from 'vitest';

function hasTool(name: string): boolean {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).error === undefined;
}

/** `test` where the tools are there or must be (`CI`), otherwise a skip that says what is missing. */
export function testWithTools(
  names: readonly string[],
): (title: string, run: () => Promise<void>, timeoutMs?: number) => void {
  const missing = names.filter(name => !hasTool(name));
  if (missing.length === 0 || process.env.CI) return (title, run, timeoutMs) => test(title, run, timeoutMs);
  return (title, run) => test.skip(`${title} (not installed: ${missing.join(', ')})`, run);
}

/** Runs a tool to its end; throws with what it printed where it fails. */
export function run(tool: string, ...args: string[]): string {
  try {
    return execFileSync(tool, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    throw new Error(`${tool} ${args.join(' ')} failed:\n${stdout ?? ''}${stderr ?? ''}`, { cause: error });
  }
}

interface CheckReport {
  'check-errors': number;
  corruptions?: number;
  leaks?: number;
}

/** What `qemu-img check` finds: errors, corruptions and leaked clusters together. */
export function countFindings(path: string): number {
  const report = JSON.parse(run('qemu-img', 'check', '-f', 'qcow2', '--output=json', path)) as CheckReport;
  return report['check-errors'] + (report.corruptions ?? 0) + (report.leaks ?? 0);
}
