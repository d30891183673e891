// docs/CONFORMANCE.md: scenario by scenario, how our daemon behaves beside QEMU's. Rendered from what a run of
// the oracle suite came to, so that it says nothing that was not seen.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Reporter, TestCase, TestModule } from 'vitest/node';
import { provenByTests } from './proven-by-tests.ts';

const DOCUMENT = 'docs/CONFORMANCE.md';

type Verdict = 'equal' | 'different' | 'ours';

/** What a test of the oracle suite says of itself. */
interface ScenarioMeta {
  readonly id: string;
  readonly title: string;
  readonly verdict: Verdict;
  readonly adr?: string;
}

interface Row {
  readonly id: string;
  readonly title: string;
  readonly result: string;
}

/** The subjects, in order, by the letters that their scenarios' ids begin with. */
const SUBJECTS: readonly [prefix: string, subject: string][] = [
  ['INV', 'Invariants'],
  ['RH', 'Random histories'],
  ['JOB', 'Job states and verbs'],
  ['BM', 'Dirty bitmaps'],
  ['BR', 'Bitmaps and resizing'],
  ['TX', 'Transactions'],
  ['SN', 'External snapshots'],
  ['SI', 'Internal snapshots'],
  ['BK', 'Arguments of a backup'],
  ['DB', 'Backups that make their own target'],
  ['BS', 'Bitmap sync matrix'],
  ['IN', 'Incremental chains'],
  ['BJ', 'Backup jobs'],
  ['LC', 'Life of a job'],
  ['CM', 'Block commit'],
  ['ST', 'Block stream'],
  ['MI', 'Mirror'],
  ['CB', 'Changing the name of a backing image'],
  ['CBW', 'Copy-before-write'],
  ['FL', 'Fleecing'],
  ['DS', 'Discarding what was copied'],
  ['NB', 'NBD'],
  ['ZR', 'Zeroes'],
  ['CC', 'Concurrency and shutdown'],
  ['HB', 'Structure of a bitmap'],
  ['EC', 'Errors'],
  ['BG', 'Block graph'],
  ['PM', 'Permissions'],
  ['RO', 'Changing options of block nodes in use'],
  ['RS', 'Resizing'],
  ['DR', 'Drivers'],
  ['BC', 'Making images'],
  ['MON', 'Monitor'],
  ['CL', 'Command line'],
];

/** Keeps what the scenarios of a run came to. */
export class ConformanceReporter implements Reporter {
  #rows: Row[] = [];

  get rows(): readonly Row[] {
    return this.#rows;
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    this.#rows = modules
      .flatMap(module => [...module.children.allTests()])
      .map(toRow)
      .filter(row => row !== undefined);
  }
}

function toRow(test: TestCase): Row | undefined {
  const { scenario } = test.meta() as { scenario?: ScenarioMeta };
  if (scenario === undefined) return undefined;
  const { id, title, verdict, adr } = scenario;
  const passed = test.result().state === 'passed';
  return { id, title, result: passed ? describe(verdict, adr) : '**not shown**' };
}

function describe(verdict: Verdict, adr: string | undefined): string {
  if (verdict === 'equal') return 'equal to QEMU';
  if (verdict === 'ours') return 'ours alone';
  return `different on purpose: [${adr?.slice(0, 4)}](adr/${adr}.md)`;
}

/**
 * Compares the document with what the rows say; with `update` writes it. Returns what is wrong, or undefined.
 */
export async function checkConformance(
  rows: readonly Row[],
  options: { rootFolder: string; update: boolean },
): Promise<string | undefined> {
  const path = join(options.rootFolder, DOCUMENT);
  const unit = await unitRows(options.rootFolder);
  const text = render([...rows, ...unit]);
  if (options.update) {
    await writeFile(path, text);
    return undefined;
  }
  const written = await readFile(path, 'utf8').catch(() => '');
  if (written === text) return undefined;
  return `${DOCUMENT} does not say what this run showed: run npm run test:oracle -- --update and look at the change`;
}

/** Rows of scenarios that no daemon can play; each names its test, which must be there. */
async function unitRows(rootFolder: string): Promise<Row[]> {
  const rows: Row[] = [];
  for (const { id, title, file, name } of provenByTests) {
    const source = await readFile(join(rootFolder, file), 'utf8').catch(() => '');
    const there = source.includes(name);
    rows.push({ id, title, result: there ? `ours alone: [test](../${file})` : '**not shown**' });
  }
  return rows;
}

function render(rows: readonly Row[]): string {
  const [equal, differing, ours] = ['equal', 'different', 'ours'].map(result => count(rows, result));
  const lines = [
    '# Conformance',
    '',
    'Written by the oracle suite (`npm run test:oracle -- --update`), which plays each scenario to',
    '`qemu-storage-daemon` 7.2 and to `tidemark-storage-daemon` and compares what both answer, tell and store.',
    'What the comparison overlooks is listed in `apps/storage-node/test/oracle/normalise.ts`.',
    '',
    `${equal} equal to QEMU, ${differing} different on purpose, ${ours} ours alone.`,
  ];
  for (const [prefix, subject] of SUBJECTS) {
    const own = rows.filter(({ id }) => /^[A-Z]+/.exec(id)?.[0] === prefix).sort(byId);
    if (own.length === 0) continue;
    lines.push('', `## ${subject}`, '', '| scenario | what it shows | result |', '|---|---|---|');
    for (const { id, title, result } of own)
      lines.push(`| ${id} | ${title.replaceAll('|', '\\|')} | ${result} |`);
  }
  const known = new Set(SUBJECTS.map(([prefix]) => prefix));
  const unknown = rows.filter(({ id }) => !known.has(/^[A-Z]+/.exec(id)?.[0] ?? ''));
  if (unknown.length > 0) throw new Error(`no subject for ${unknown.map(({ id }) => id).join(', ')}`);
  return `${lines.join('\n')}\n`;
}

function count(rows: readonly Row[], result: string): number {
  return rows.filter(row => row.result.startsWith(result)).length;
}

function byId(one: Row, other: Row): number {
  return (
    one.id.localeCompare(other.id, 'en', { numeric: true }) || one.title.localeCompare(other.title, 'en')
  );
}
