// A suite that lets a defect pass proves nothing. Each module of planted-defects/ breaks our daemon in one place,
// and the scenario that it names has to notice.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Daemon } from './daemon.ts';
import { collectScenarios, playScenario } from './scenario.ts';
import { missingTools } from './tools.ts';

const FOLDER = new URL('./planted-defects/', import.meta.url);
const SCENARIOS = new URL('./scenario/', import.meta.url);
const TIMEOUT_MS = 120_000;
/** The head of each module ends with `scenario BM-13 must notice.` */
const NAMED = /scenario\s+([A-Z][A-Za-z0-9.-]*)(?:\s|\/\/)+must\s+notice/;

const files = (await readdir(FOLDER)).filter(name => name.endsWith('.ts')).sort();
const scenarioFiles = (await readdir(SCENARIOS)).filter(name => name.endsWith('.test.ts'));

const scenarios = await collectScenarios(async () => {
  for (const name of scenarioFiles) await import(new URL(name, SCENARIOS).href);
});

for (const file of files) {
  const module = new URL(file, FOLDER).href;
  test(`${file} is noticed`, { timeout: TIMEOUT_MS }, async context => {
    const missing = missingTools();
    if (missing.length > 0 && process.env.CI) throw new Error(`${missing.join(', ')} not installed`);
    context.skip(missing.length > 0, `${missing.join(', ')} not installed`);
    const id = NAMED.exec((await readFile(new URL(file, FOLDER), 'utf8')).replaceAll('\n// ', ' '))?.[1];
    const noticing = scenarios.filter(scenario => scenario.id.split(' ')[0] === id);
    expect(noticing, `${file} names a scenario that there is`).not.toEqual([]);
    await startsAndQuits(module);
    const outcomes = await Promise.allSettled(noticing.map(scenario => playScenario(scenario, [module])));
    expect(
      outcomes.map(({ status }) => status),
      `${id} passes with the defect`,
    ).toContain('rejected');
  });
}

/** A daemon that does not even start would make every scenario fail. */
async function startsAndQuits(module: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-defect-'));
  try {
    const daemon = await Daemon.start({ side: 'tidemark', folder, imports: [module] });
    await daemon.quit();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
