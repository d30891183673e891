// A scenario is played to qemu-storage-daemon and to ours, at the same time; their traces must be equal.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Side } from './daemon.ts';
import { Session, type Trace } from './session.ts';
import { missingTools } from './tools.ts';

export type Play = (session: Session) => Promise<void>;

const SCENARIO_TIMEOUT_MS = 120_000;
const BOTH: readonly Side[] = ['qemu', 'tidemark'];

/** Equal to QEMU. `id` is the scenario's in the list of behaviours, such as `BM-14`. */
export function scenario(id: string, title: string, play: Play): void {
  defineScenario({ id, title, verdict: 'equal', sides: BOTH, play });
}

/** Ours alone: QEMU cannot play it. */
export function ours(id: string, title: string, play: Play): void {
  defineScenario({ id, title, verdict: 'ours', sides: ['tidemark'], play });
}

/** Different on purpose: both are played, the traces must differ, and the record of the decision says why. */
export function different(id: string, title: string, adr: string, play: Play): void {
  defineScenario({ id, title, verdict: 'different', adr, sides: BOTH, play });
}

/** Different on purpose: QEMU 7.2 crashes where ours answers. A QEMU that no longer does fails the scenario. */
export function qemuDies(id: string, title: string, adr: string, play: Play): void {
  defineScenario({ id, title, verdict: 'different', adr, sides: BOTH, play, qemuDies: true });
}

export interface ScenarioDefinition {
  readonly id: string;
  readonly title: string;
  readonly verdict: 'equal' | 'different' | 'ours';
  /** File name of the decision, such as `0024-…`. */
  readonly adr?: string;
  readonly sides: readonly Side[];
  readonly play: Play;
  readonly qemuDies?: boolean;
}

/** Where definitions go while somebody wants to have them instead of running them. */
let collected: ScenarioDefinition[] | undefined;

/** The scenarios of a file, which `load` imports: for whoever plays them in another way. */
export async function collectScenarios(load: () => Promise<unknown>): Promise<readonly ScenarioDefinition[]> {
  const definitions: ScenarioDefinition[] = [];
  collected = definitions;
  try {
    await load();
  } finally {
    collected = undefined;
  }
  return definitions;
}

/** The trace of a side that has crashed. */
const DIED: Trace = { steps: 'died', events: {} };

function defineScenario(definition: ScenarioDefinition): void {
  const { id, title, verdict, adr } = definition;
  if (collected !== undefined) {
    collected.push(definition);
    return;
  }
  test(`${id} ${title}`, { timeout: SCENARIO_TIMEOUT_MS }, async context => {
    Object.assign(context.task.meta, { scenario: { id, title, verdict, adr } });
    const missing = missingTools();
    if (missing.length > 0 && process.env.CI) throw new Error(`${missing.join(', ')} not installed`);
    context.skip(missing.length > 0, `${missing.join(', ')} not installed`);
    await playScenario(definition);
  });
}

/** Rejects with the first difference. `imports` are loaded into our daemon. */
export async function playScenario(
  { sides, verdict, play, qemuDies: mayDie = false }: ScenarioDefinition,
  imports: readonly string[] = [],
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-oracle-'));
  try {
    // Both to their end, whatever becomes of the other: a side that is left alone would leave its daemon behind.
    const outcomes = await Promise.allSettled(
      sides.map(side => playSide(side, { folder: join(folder, side), play, imports, mayDie })),
    );
    const traces = outcomes.map(outcome => {
      if (outcome.status === 'rejected') throw outcome.reason;
      return outcome.value;
    });
    const [theirs, mine] = traces;
    if (mayDie) expect(theirs, 'QEMU no longer crashes here').toBe(DIED);
    if (verdict === 'equal') expect(mine, 'ours must be as QEMU').toEqual(theirs);
    if (verdict === 'different') expect(mine, 'is different on purpose, but was equal').not.toEqual(theirs);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface SideOptions {
  readonly folder: string;
  readonly play: Play;
  readonly imports: readonly string[];
  /** QEMU's crash is what is expected. */
  readonly mayDie: boolean;
}

async function playSide(side: Side, { folder, play, imports, mayDie }: SideOptions): Promise<Trace> {
  const session = new Session({ side, folder, imports });
  try {
    await session.start();
    await play(session);
    await session.finish();
    return session.trace;
  } catch (error) {
    await session.kill();
    if (mayDie && side === 'qemu' && /SIGSEGV|SIGABRT/.test(session.daemon?.death ?? '')) return DIED;
    const { death, complaints } = session.daemon ?? {};
    const more = [death, complaints].filter(Boolean).join('\n');
    throw new Error(`${side}: ${error instanceof Error ? (error.stack ?? error.message) : error}\n${more}`);
  } finally {
    await session.kill();
  }
}
