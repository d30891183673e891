// What must hold of the disk's bitmaps between any two steps (INV-2, INV-5, INV-10), and that they are what the
// model has.
import type { Bitmap } from '../../bitmap/bitmap.ts';
import type { DirtyBitmap } from '../../bitmap/dirty-bitmap.ts';
import { EngineError, type EngineErrorKind } from '../../errors.ts';
import type { BlockGraph } from '../../graph/block-graph.ts';
import {
  applyAction,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  mergeBitmaps,
  removeBitmap,
} from '../../transaction/bitmap-actions.ts';
import type { InstantAction } from '../../transaction/transaction.ts';
import type { ChainWatch } from './chain-watch.ts';
import type { Model, ModelBitmap } from './model.ts';
import { type Invariant, Violation } from './verdict.ts';

export interface BitmapCheckOptions {
  readonly graph: BlockGraph;
  /** Name of the disk's block node. */
  readonly node: string;
  readonly model: Model;
  readonly chains: ChainWatch;
}

export class BitmapChecks {
  readonly #options: BitmapCheckOptions;

  constructor(options: BitmapCheckOptions) {
    this.#options = options;
  }

  get all(): readonly DirtyBitmap[] {
    return this.#options.graph.get(this.#options.node).bitmaps.all;
  }

  /** Throws a Violation. */
  check(): void {
    const { model } = this.#options;
    const names = this.all.map(({ name }) => name!).sort();
    const wanted = [...model.bitmaps.keys()].sort();
    if (names.join() !== wanted.join()) {
      throw new Violation('model', `there are bitmaps ${names}, and not ${wanted}`);
    }
    for (const bitmap of this.all) this.#one(bitmap, model.bitmaps.get(bitmap.name!)!);
  }

  /** What is refused of a bitmap, and with which kind of error. Throws a Violation. */
  checkRefusals(name: string, kind: EngineErrorKind, others: Record<string, () => unknown>): void {
    const { graph, node } = this.#options;
    const bitmap = { node, name };
    const other = this.all.find(candidate => candidate.name !== name)?.name;
    const verbs: Record<string, InstantAction> = {
      clear: clearBitmap(bitmap),
      enable: enableBitmap(bitmap),
      disable: disableBitmap(bitmap),
      'merge into': mergeBitmaps(bitmap, []),
      ...(kind === 'busy' && { remove: removeBitmap(bitmap) }),
      ...(other !== undefined && { 'merge from': mergeBitmaps({ node, name: other }, [bitmap]) }),
    };
    const tries = Object.entries(verbs).map(
      ([verb, action]) => [verb, () => applyAction(graph, action)] as const,
    );
    for (const [verb, attempt] of [...tries, ...Object.entries(others)]) {
      const found = kindOf(attempt);
      if (found === kind) continue;
      const text = `${verb} of bitmap ${name} is ${found === undefined ? 'accepted' : `refused as ${found}`}`;
      throw new Violation(kind === 'busy' ? 5 : 10, `${text}, and not refused as ${kind}`);
    }
  }

  #one(bitmap: DirtyBitmap, wanted: ModelBitmap): void {
    const { model, chains } = this.#options;
    const { name, recording, busy, inconsistent } = bitmap.info();
    const held = wanted.since !== undefined;
    const fail = (invariant: Invariant, text: string): never => {
      throw new Violation(invariant, `bitmap ${name} ${text}`);
    };
    if (inconsistent !== wanted.inconsistent) fail(10, `is ${inconsistent ? 'not ' : ''}trusted`);
    if (busy !== held) fail(5, `is ${busy ? 'busy without a job' : 'not busy while a job has it'}`);
    if (recording !== wanted.recording) {
      fail(held ? 5 : 'model', `is ${recording ? '' : 'not '}recording, unlike before`);
    }
    if (held && !isEqual(bitmap.bits, wanted.dirty!)) fail(5, 'changes while a job has it');
    const live = bitmap.successor?.bits;
    if (!inconsistent) {
      const isDirty = (offset: number) => bitmap.bits.get(offset) || live?.get(offset) === true;
      const lost = chains.lost(name!, model.bytes, isDirty);
      if (lost !== undefined) fail(2, `lacks block ${lost}, which no kept backup has`);
    }
    const bits = live ?? bitmap.bits;
    const known = wanted.since ?? wanted.dirty!;
    if (isEqual(bits, known)) return;
    const missing = [...known].find(index => !bits.get(index * bits.granularityBytes));
    if (missing !== undefined) fail(2, `lacks granule ${missing}, which was written`);
    fail(recording ? 'model' : 10, `has ${bits.dirtyGranules} dirty granules, more than it should`);
  }
}

export function granulesIn(bits: Bitmap): Set<number> {
  const found = new Set<number>();
  for (let index = 0; index < bits.granules; index++) {
    if (bits.get(index * bits.granularityBytes)) found.add(index);
  }
  return found;
}

function isEqual(bits: Bitmap, wanted: ReadonlySet<number>): boolean {
  if (bits.dirtyGranules !== wanted.size) return false;
  for (const index of wanted) if (!bits.get(index * bits.granularityBytes)) return false;
  return true;
}

/** What it is refused with; undefined where it is accepted. */
function kindOf(attempt: () => unknown): EngineErrorKind | undefined {
  try {
    attempt();
    return undefined;
  } catch (error) {
    if (error instanceof EngineError) return error.kind;
    throw error;
  }
}
