// `npm run demo`: starts a system of its own, does the main job, proves the result, and leaves nothing behind.
// Exit code 0: every restore is equal; 1: one is not, or something failed; 130: interrupted.

import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { optionsOf } from '../process/options.ts';
import { rootFolder } from '../setup/find-node.mjs';
import { Stack } from '../stack/stack.ts';
import { Demo, type Taken } from './demo.ts';
import { Display, seconds, size } from './display.ts';
import { FilesystemImage } from './filesystem-image.ts';
import { makeHome, removeHome, removeLeftovers } from './home.ts';
import { RestClient } from './rest-client.ts';
import { type Outcome, Verification } from './verification.ts';

const HELP = `npm run demo [-- --keep]
  --keep  leave the demo's folder (logs, images, backups) for a look at it; remove it yourself`;

const display = new Display(process.stdout.isTTY === true);
const interruption = new AbortController();
const { signal } = interruption;
let interrupted = false;

/** Resolves with whether everything was as it must be. */
async function run(stack: Stack, home: string): Promise<boolean> {
  const started = performance.now();
  const images = FilesystemImage.make({
    from: rootFolder,
    leaveOut: dirname(home),
    folder: join(home, 'images'),
    day: 'monday',
    signal,
  });
  images.catch(() => {}); // told below, once the stack is up
  let demo: Demo | null = null;
  try {
    await stack.start();
    display.done('started', `PostgreSQL, api ${stack.url}, worker, two storage nodes`);
    const image = await images;
    const [source, vault] = stack.nodes as [Stack['nodes'][number], Stack['nodes'][number]];
    demo = new Demo({ rest: new RestClient(stack.url, signal), source, vault, image, display, signal });
    await demo.prepare();
    const monday = await demo.backUp('monday', { kind: 'full', busy: true });
    await demo.changeFiles('tuesday');
    const tuesday = await demo.backUp('tuesday', { kind: 'incremental', busy: false });
    await demo.changeFiles('wednesday');
    const wednesday = await demo.backUp('wednesday', { kind: 'incremental', busy: true });
    const ext4 = image.format.startsWith('ext4');
    const verification = new Verification({ demo, display, signal, ext4, repositoryFolder: vault.stateDir });
    const results: [Taken, Outcome][] = [];
    for (const taken of [monday, tuesday, wednesday]) results.push([taken, await verification.check(taken)]);
    verification.sayMissingTools();
    display.line();
    printTable(results);
    const equal = results.every(([, { volume, file }]) => volume && file) && !verification.toolsFailed;
    const took = seconds((performance.now() - started) / 1000);
    display.line(
      `\n${equal ? 'All six restores are equal to their source' : 'NOT EQUAL: see above'} (${took}).`,
    );
    return equal;
  } finally {
    interruption.abort(); // an image that is still being made
    await Promise.allSettled([images, demo?.close()]);
  }
}

function printTable(results: [Taken, Outcome][]): void {
  const verdict = (equal: boolean) => (equal ? 'equal' : 'DIFFERS');
  display.table(
    ['checkpoint', 'kind', 'dirty', 'sent', 'seconds', 'volume', 'file'],
    results.map(([{ expectation, backup, seconds: took }, { volume, file }]) => [
      expectation.checkpoint,
      backup.kind,
      size(backup.dirtyBytes),
      size(backup.sentBytes),
      took.toFixed(1),
      verdict(volume),
      verdict(file),
    ]),
  );
}

async function main(keep: boolean): Promise<number> {
  const parent = resolve(process.env.TIDEMARK_HOME ?? join(rootFolder, '.tidemark'));
  const home = makeHome(parent, { keep });
  const stack = new Stack({ home, ports: 'free', register: false, onNotice: line => display.detail(line) });
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (interrupted) return; // a terminal, npm and an impatient user may all send it
      interrupted = true;
      interruption.abort(new Error('interrupted'));
      display.line('\nInterrupted; stopping …');
      void stack.stop();
    });
  }
  let code = 1;
  try {
    const leftovers = await removeLeftovers(parent);
    if (leftovers > 0)
      display.done('tidied', `what ${leftovers} killed ${leftovers === 1 ? 'demo' : 'demos'} had left`);
    code = (await run(stack, home)) ? 0 : 1;
  } catch (error) {
    if (!interrupted) display.failed('the demo failed', (error as Error).message);
  }
  await stack.stop();
  if (keep) display.line(`Kept: ${home}`);
  else removeHome(home);
  return interrupted ? 130 : code;
}

const OPTIONS = { options: { keep: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } } as const;
const { values } = optionsOf(() => parseArgs(OPTIONS));
if (values.help) display.line(HELP);
process.exit(values.help ? 0 : await main(values.keep ?? false));
