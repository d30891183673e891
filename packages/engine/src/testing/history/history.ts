// Random histories: what guests, operators and jobs do to one disk, as data, so that a failing one can be
// printed, shrunk and played again.
import { KiB, MiB } from '../../units.ts';
import { SeededRandom } from '../seeded-random.ts';

export const DISK_BYTES = 2 * MiB;
/** Guest requests are made of whole ones, each filled with one byte. */
export const HISTORY_BLOCK_BYTES = 4 * KiB;
/** What a backup never copies less than. */
export const HISTORY_CLUSTER_BYTES = 64 * KiB;
const NAMES = ['b0', 'b1', 'b2', 'b3'];
const GRANULARITIES = [4096, 32_768, 65_536, 131_072];
const STEPS = 12;

export type GuestStep = {
  readonly guest: 'write' | 'zero' | 'unmap' | 'discard';
  readonly offset: number;
  readonly length: number;
  readonly byte: number;
};

export type BitmapStep =
  | {
      readonly bitmap: 'add';
      readonly name: string;
      readonly granularity: number;
      readonly disabled: boolean;
    }
  | { readonly bitmap: 'remove' | 'clear' | 'enable' | 'disable'; readonly name: string }
  | { readonly bitmap: 'merge'; readonly name: string; readonly from: readonly string[] };

export interface TransactionStep {
  readonly transaction: readonly (BitmapStep | 'abort')[];
}

export interface BackupStep {
  readonly backup: 'full' | 'top' | 'bitmap' | 'incremental';
  readonly name?: string;
  readonly mode?: 'never' | 'on-success' | 'always';
  readonly fault: 'none' | 'read' | 'write';
  readonly policy: 'report' | 'ignore';
  /** Guest requests while the job is pending, and how it goes on then. */
  readonly pending: readonly GuestStep[];
  readonly end: 'finalize' | 'cancel';
}

export type Step = GuestStep | BitmapStep | TransactionStep | BackupStep;

/** The same steps for the same seed. */
export function generateHistory(seed: number): Step[] {
  return generateSteps(new SeededRandom(seed), step => step);
}

/** `extend` makes more of each step; what it draws changes the steps that follow. */
export function generateSteps<Made>(
  random: SeededRandom,
  extend: (step: Step, present: ReadonlySet<string>) => Made,
): Made[] {
  const present = new Set<string>();
  return Array.from({ length: STEPS }, () => extend(nextStep(random, present), present));
}

function nextStep(random: SeededRandom, present: Set<string>): Step {
  const kind = random.int(0, 9);
  if (kind <= 3) return guestStep(random);
  if (kind <= 5) return track(bitmapStep(random, present), present);
  if (kind === 6) return transactionStep(random, present);
  return backupStep(random, present);
}

export function guestStep(random: SeededRandom): GuestStep {
  const guest = random.pick(['write', 'write', 'write', 'zero', 'unmap', 'discard'] as const);
  const unit = guest === 'discard' || guest === 'unmap' ? HISTORY_CLUSTER_BYTES : HISTORY_BLOCK_BYTES;
  const units = DISK_BYTES / unit;
  const first = random.int(0, units - 1);
  const length = Math.min(random.int(1, guest === 'write' ? 40 : 8), units - first);
  return { guest, offset: first * unit, length: length * unit, byte: random.int(1, 255) };
}

/** QEMU drops discards while a job's filter is there; ours passes them on. */
function pendingStep(random: SeededRandom): GuestStep {
  const step = guestStep(random);
  return step.guest === 'discard' ? { ...step, guest: 'zero' } : step;
}

/** QEMU 7.2 dies of a merge of nothing, so there is always a source. */
export function bitmapStep(random: SeededRandom, present: ReadonlySet<string>): BitmapStep {
  const name = random.pick(NAMES);
  const bitmap = random.pick(['add', 'add', 'remove', 'clear', 'enable', 'disable', 'merge'] as const);
  if (bitmap === 'add' || present.size === 0) {
    const granularity = random.pick(GRANULARITIES);
    return { bitmap: 'add', name, granularity, disabled: random.chance(0.3) };
  }
  if (bitmap !== 'merge') return { bitmap, name };
  const from = Array.from({ length: random.int(1, 3) }, () => random.pick(NAMES));
  return { bitmap, name, from };
}

function track<Taken extends BitmapStep>(step: Taken, present: Set<string>): Taken {
  if (step.bitmap === 'add') present.add(step.name);
  if (step.bitmap === 'remove') present.delete(step.name);
  return step;
}

/** QEMU 7.2 dies of an `enable` that fails inside a transaction: those name bitmaps that are there. */
function transactionStep(random: SeededRandom, present: Set<string>): TransactionStep {
  const staged = new Set(present);
  const removed = new Set<string>();
  const actions: (BitmapStep | 'abort')[] = [];
  for (let count = random.int(1, 4); count > 0; count--) {
    const step = bitmapStep(random, staged);
    const switches = step.bitmap === 'enable' || step.bitmap === 'disable';
    if (switches && !staged.has(step.name)) continue;
    const names = namesOf(step);
    const unknown = step.bitmap === 'add' ? staged.has(step.name) : names.some(name => !staged.has(name));
    const fails = unknown || names.some(name => removed.has(name));
    if (fails && switches) continue;
    if (step.bitmap === 'remove') removed.add(step.name);
    actions.push(step);
    if (fails) return { transaction: actions };
    track(step, staged);
  }
  if (random.chance(0.2)) return { transaction: [...actions, 'abort'] };
  present.clear();
  for (const name of staged) present.add(name);
  return { transaction: actions };
}

/** Every bitmap that the step speaks of. */
export function namesOf(step: BitmapStep): string[] {
  return step.bitmap === 'merge' ? [step.name, ...step.from] : [step.name];
}

function backupStep(random: SeededRandom, present: ReadonlySet<string>): BackupStep {
  const name = present.size === 0 ? undefined : random.pick([...present]);
  const backup = random.pick(
    name === undefined
      ? (['full', 'top'] as const)
      : (['full', 'top', 'bitmap', 'bitmap', 'incremental'] as const),
  );
  const fault = random.pick(['none', 'none', 'read', 'write'] as const);
  const rest = {
    fault,
    policy: random.pick(['report', 'ignore'] as const),
    pending: Array.from({ length: random.int(0, 2) }, () => pendingStep(random)),
    end: random.pick(['finalize', 'finalize', 'cancel'] as const),
  };
  if (backup === 'incremental') return { backup, name: name!, ...rest };
  if (backup === 'bitmap')
    return { backup, name: name!, mode: random.pick(['never', 'on-success', 'always'] as const), ...rest };
  if (name !== undefined && random.chance(0.5)) {
    return { backup, name, mode: random.pick(['on-success', 'always'] as const), ...rest };
  }
  return { backup, ...rest };
}

/** One step a line, to be pasted into a test. */
export function formatHistory(steps: readonly unknown[]): string {
  return `[\n${steps.map(step => `  ${JSON.stringify(step)},`).join('\n')}\n]`;
}
