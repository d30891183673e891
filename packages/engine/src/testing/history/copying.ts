// Histories for the engine alone: the same, with much going on while a backup copies. There every request to
// source and target can be held back and let go in any order, which no daemon allows.
import { KiB } from '../../units.ts';
import { SeededRandom } from '../seeded-random.ts';
import {
  type BackupStep,
  type BitmapStep,
  bitmapStep,
  type GuestStep,
  generateSteps,
  guestStep,
  type Step,
  type TransactionStep,
} from './history.ts';

export interface ReadStep {
  readonly read: true;
  readonly offset: number;
  readonly length: number;
}

/** Lets one of the requests go that are held back, the how-manyth of them, or lets it fail. */
export interface ReleaseStep {
  readonly release: number;
  readonly fails: boolean;
}

export interface VerbStep {
  readonly verb: 'pause' | 'resume' | 'cancel';
}

export interface WaitStep {
  readonly waitMs: number;
}

export type DuringStep =
  | GuestStep
  | ReadStep
  | BitmapStep
  | TransactionStep
  | ReleaseStep
  | VerbStep
  | WaitStep;

export interface Copying {
  /** Under way when the backup is asked for. */
  readonly lead: readonly GuestStep[];
  /** Each begins without waiting for the end of the ones before. */
  readonly during: readonly DuringStep[];
  /** Seed of the order in which requests are let go once `during` is over. */
  readonly order: number;
  readonly workers: number;
  readonly chunkBytes: number;
  /** Failing copies stop the job, which is then resumed; otherwise as `policy` says. */
  readonly stops: boolean;
  readonly onCbwError: 'break-guest-write' | 'break-snapshot';
  readonly cbwTimeoutMs: number;
  readonly targetIsZero: boolean;
  readonly feedFromReads: boolean;
  /** The source tells its block status late. */
  readonly lateStatus: boolean;
  /** The target lets go of what it holds when a forced cancel asks it to. */
  readonly cancels: boolean;
}

export type CopyingBackupStep = BackupStep & { readonly copying: Copying };

/** The image of this bitmap was not closed properly. */
export interface UnclosedStep {
  readonly unclosed: string;
}

export type CopyingStep = Exclude<Step, BackupStep> | CopyingBackupStep | UnclosedStep;

const DURING_MAX = 24;
const CBW_TIMEOUT_MS = 1000;

/** The same steps for the same seed; others than `generateHistory` makes of it. */
export function generateCopyingHistory(seed: number): CopyingStep[] {
  const random = new SeededRandom(seed);
  return generateSteps(random, (step, present): CopyingStep => {
    if ('backup' in step) return { ...step, copying: copying(random, present) };
    if (present.size > 0 && random.chance(0.06)) return { unclosed: random.pick([...present]) };
    return step;
  });
}

function copying(random: SeededRandom, present: ReadonlySet<string>): Copying {
  return {
    lead: Array.from({ length: random.int(0, 2) }, () => guestStep(random)),
    during: Array.from({ length: random.int(0, DURING_MAX) }, () => duringStep(random, present)),
    order: random.uint32(),
    workers: random.int(1, 4),
    chunkBytes: random.pick([0, 64 * KiB, 128 * KiB]),
    stops: random.chance(0.2),
    onCbwError: random.pick(['break-guest-write', 'break-snapshot'] as const),
    cbwTimeoutMs: random.chance(0.3) ? CBW_TIMEOUT_MS : 0,
    targetIsZero: random.chance(0.3),
    feedFromReads: random.chance(0.3),
    lateStatus: random.chance(0.3),
    cancels: random.chance(0.5),
  };
}

function duringStep(random: SeededRandom, present: ReadonlySet<string>): DuringStep {
  const kind = random.int(0, 39);
  if (kind < 12) return guestStep(random);
  if (kind < 15) {
    const { offset, length } = guestStep(random);
    return { read: true, offset, length };
  }
  if (kind < 33) return { release: random.int(0, 15), fails: random.chance(0.06) };
  if (kind < 35) return bitmapStep(random, present);
  if (kind < 36) {
    const actions = Array.from({ length: random.int(1, 3) }, () => bitmapStep(random, present));
    return { transaction: random.chance(0.2) ? [...actions, 'abort'] : actions };
  }
  if (kind < 39) return { verb: random.pick(['pause', 'resume', 'resume', 'cancel'] as const) };
  return { waitMs: CBW_TIMEOUT_MS };
}
