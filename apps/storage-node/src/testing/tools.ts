// Real tools for interoperability tests: skipped with a reason where one is absent, a failure in CI.
import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';
import { test } from 'vitest';

const run = promisify(execFile);

/** Runs the test only where all tools are installed. */
export function testWith(
  tools: readonly string[],
  name: string,
  body: () => Promise<void>,
  timeoutMs?: number,
): void {
  test(name, timeoutMs === undefined ? {} : { timeout: timeoutMs }, async context => {
    const missing = tools.filter(tool => spawnSync(tool, ['--version']).error !== undefined);
    if (missing.length > 0 && process.env.CI) throw new Error(`${missing.join(', ')} not installed`);
    context.skip(missing.length > 0, `${missing.join(', ')} not installed`);
    await body();
  });
}

/** Standard output; rejects with what the tool said when it fails. */
export async function runTool(tool: string, ...parameters: string[]): Promise<string> {
  const { stdout } = await run(tool, parameters, { timeout: 60_000 });
  return stdout;
}
