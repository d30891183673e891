// `npm test`, `npm run check`, `npm run build`, `npm run test:interop`, `npm run test:oracle`: the checks of every
// workspace and of the scripts, then the tests; ends with the two lines of outcome.ts and exit code 1 when
// anything failed.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { parseCLI, type Reporter, startVitest } from 'vitest/node';
import { rootFolder } from '../setup/find-node.mjs';
import { ConformanceReporter, checkConformance } from './conformance.ts';
import { add, emptyOutcome, type Outcome, outcomeLines } from './outcome.ts';
import { SummaryReporter } from './summary-reporter.ts';

const CHECKS: [name: string, command: string[]][] = [
  [
    'workspaces: types and lint',
    ['turbo', 'run', 'check', '--continue', '--concurrency=100%', '--output-logs=errors-only', '--ui=stream'],
  ],
  ['root: lint', ['biome', 'check', '--error-on-warnings', 'scripts', 'biome.json', 'vitest.config.ts']],
  ['root: types', ['tsc', '--noEmit', '-p', 'tsconfig.json']],
];
const BUILDS: typeof CHECKS = [
  [
    'workspaces: build',
    ['turbo', 'run', 'build', '--continue', '--concurrency=100%', '--output-logs=errors-only', '--ui=stream'],
  ],
];

async function runCommands(commands: typeof CHECKS): Promise<Outcome> {
  let total = emptyOutcome();
  for (const [name, [file, ...args]] of commands) {
    const child = spawn(file!, args, { cwd: rootFolder, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    const [code, signal] = await once(child, 'close');
    const passed = code === 0;
    console.log(`${passed ? '✓' : '✗'} ${name}`);
    if (!passed) console.log(`${output.trimEnd()}\n(${file} ${args.join(' ')} ended with ${signal ?? code})`);
    total = add(total, { passed: passed ? 1 : 0, failed: passed ? 0 : 1, skipped: [] });
  }
  return total;
}

async function runVitest(projects: string[], args: string[], more: Reporter[] = []): Promise<Outcome> {
  const { filter, options } = parseCLI(['vitest', 'run', ...args]);
  const reporter = new SummaryReporter(rootFolder);
  const vitest = await startVitest('test', filter, {
    ...options,
    watch: false,
    root: rootFolder,
    project: projects,
    passWithNoTests: false,
    reporters: ['default', reporter, ...more],
  });
  await vitest.close();
  // A run that could not even start has counted nothing.
  const failedSilently = reporter.outcome.failed === 0 && process.exitCode;
  return failedSilently ? add(reporter.outcome, { passed: 0, failed: 1, skipped: [] }) : reporter.outcome;
}

/** Also compares docs/CONFORMANCE.md with what a whole run showed; `--update` writes it. */
async function runOracle(args: string[]): Promise<Outcome> {
  const update = args.includes('--update');
  const rest = args.filter(arg => arg !== '--update');
  const conformance = new ConformanceReporter();
  const outcome = await runVitest(['oracle'], rest, [conformance]);
  if (rest.length > 0 || outcome.skipped.length > 0) return outcome;
  const fault = await checkConformance(conformance.rows, { rootFolder, update });
  if (fault !== undefined) console.log(`✗ ${fault}`);
  return add(outcome, { passed: fault ? 0 : 1, failed: fault ? 1 : 0, skipped: [] });
}

async function run(mode: string | undefined, args: string[]): Promise<Outcome> {
  switch (mode) {
    case 'check':
      return runCommands(CHECKS);
    case 'build':
      return runCommands(BUILDS);
    case 'interop':
      return runVitest(['interop'], args);
    case 'oracle':
      return runOracle(args);
    case 'all': {
      const checks = args.length === 0 ? await runCommands(CHECKS) : emptyOutcome();
      return add(checks, await runVitest(['!interop', '!oracle'], args));
    }
    default:
      throw new Error(`no test mode '${mode}': all, interop, oracle, check or build`);
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130));
const outcome = await run(process.argv[2], process.argv.slice(3));
// On a user's machine a tool may be missing; where everything is installed, what is left out is not tested.
if (process.env.CI) outcome.failed += outcome.skipped.length;
console.log(`\n${outcomeLines(outcome)}`);
process.exit(outcome.failed > 0 ? 1 : 0);
