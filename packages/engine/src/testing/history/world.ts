// One disk in a block graph with its guest and everybody who watches, for histories that are played to the
// engine itself. Every request to source and target is held until `release` or `drive` lets it go.
import { EngineError } from '../../errors.ts';
import type { Attachment } from '../../graph/attachment.ts';
import { BlockGraph } from '../../graph/block-graph.ts';
import { PERMISSION } from '../../graph/permissions.ts';
import { JobRegistry } from '../../job/job-registry.ts';
import {
  abortTransaction,
  addBitmap,
  applyAction,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  mergeBitmaps,
  removeBitmap,
} from '../../transaction/bitmap-actions.ts';
import { type InstantAction, runTransaction, type TransactionAction } from '../../transaction/transaction.ts';
import { ManualClock, settled } from '../manual-clock.ts';
import type { SeededRandom } from '../seeded-random.ts';
import type { BackupRun } from './backup-run.ts';
import { BitmapChecks } from './bitmap-checks.ts';
import { ChainWatch } from './chain-watch.ts';
import { GateNode, type GateRequest } from './gate-node.ts';
import { GuestRequests } from './guest-requests.ts';
import { type BitmapStep, DISK_BYTES, type TransactionStep } from './history.ts';
import { Model } from './model.ts';
import { Verdict, Violation } from './verdict.ts';

export const DISK = 'disk';
/** Turns in a row without anything to let go, after which nothing will ever happen again. */
const IDLE_TURNS_MAX = 20;
/** Longer than a job rests before it tries again what has failed twice. */
const REST_MS = 10_000;

export class World {
  readonly verdict = new Verdict();
  readonly clock = new ManualClock();
  readonly jobs = new JobRegistry(this.clock);
  readonly graph = new BlockGraph();
  readonly model = new Model();
  readonly chains = new ChainWatch();
  readonly source: GateNode;
  readonly guest: Attachment;
  readonly requests: GuestRequests;
  readonly bitmaps: BitmapChecks;
  /** The backup that is being played. */
  backup: BackupRun | undefined;
  /** A transaction was, since the last look. */
  #refused = false;

  constructor() {
    const { graph, model, chains, verdict } = this;
    this.source = new GateNode(DISK_BYTES, {
      arrived: request => this.#arrived(request),
      ended: (request, failed) => isChange(request) && this.requests.ended(request, failed),
    });
    graph.add({ name: DISK }, () => this.source);
    const uses = PERMISSION.consistentRead | PERMISSION.write;
    this.guest = graph.attach(DISK, { user: 'the guest', uses });
    const mayFail = () => this.backup?.guestMayFail ?? false;
    this.requests = new GuestRequests({ attachment: this.guest, model, verdict, mayFail });
    this.bitmaps = new BitmapChecks({ graph, node: DISK, model, chains });
  }

  /** Lets one request go that is held, or lets it fail. Returns whether there was one. */
  release(choice: number, fails = false): boolean {
    const gates = [this.source, ...(this.backup === undefined ? [] : [this.backup.target])];
    const count = gates.reduce((sum, gate) => sum + gate.heldCount, 0);
    if (count === 0) return false;
    let index = choice % count;
    for (const gate of gates) {
      if (index >= gate.heldCount) {
        index -= gate.heldCount;
        continue;
      }
      const errs = this.backup?.errs(gate, gate.held[index]!, fails) ?? false;
      gate.release(index, errs ? 'EIO' : undefined);
      break;
    }
    return true;
  }

  /** Lets requests go in the order that `random` says until it is `done`. Throws a Violation. */
  async drive(random: SeededRandom, done: () => boolean): Promise<void> {
    for (let idle = 0; ; ) {
      await this.settle();
      if (done()) return;
      if (this.release(random.int(0, 1000))) {
        idle = 0;
        continue;
      }
      if (++idle > IDLE_TURNS_MAX)
        throw new Violation(7, 'nothing is under way, and nothing comes to its end');
      this.backup?.nudge();
      await this.clock.advance(REST_MS);
    }
  }

  /** Lets the engine come to rest and looks at everything. Throws a Violation. */
  async settle(): Promise<void> {
    await settled();
    this.verdict.assertClean();
    this.check();
  }

  /** What is wrong right after a transaction was refused is that one's doing (INV-6). Throws a Violation. */
  check(): void {
    try {
      this.#checkAll();
    } catch (error) {
      if (!this.#refused || !(error instanceof Violation)) throw error;
      throw new Violation(6, `after a transaction that was refused: ${error.message}`);
    }
    this.#refused = false;
  }

  #checkAll(): void {
    this.backup?.noticeRelease();
    this.verdict.assertClean();
    this.bitmaps.check();
    this.backup?.check();
    const expected = new Set([DISK, ...(this.backup?.nodes ?? [])]);
    const names = [...this.graph.nodes].map(({ name }) => name);
    const odd = names.find(name => !expected.has(name));
    if (odd !== undefined) throw new Violation(6, `there is a block node '${odd}' that nobody asked for`);
  }

  /** A single operation, at once. Throws a Violation. */
  bitmap(step: BitmapStep): void {
    const before = this.model.transaction([step]);
    let refusal: unknown;
    try {
      applyAction(this.graph, actionOf(step));
    } catch (error) {
      refusal = error;
    }
    this.#compare(JSON.stringify(step), before, refusal);
    if (before) this.chains.bitmap(step, this.model.bytes, this.requests.underWay);
  }

  /**
   * Begins a transaction; the model follows at its instant. `done` tells whether it is over; throws a Violation
   * where it ended as the model does not.
   */
  beginTransaction({ transaction }: TransactionStep): () => boolean {
    let accepted = false;
    const instant: TransactionAction = {
      kind: 'instant',
      nodes: () => [],
      prepare: () => {
        this.backup?.noticeRelease();
        accepted = this.model.transaction(transaction);
        const steps = transaction.filter(action => action !== 'abort');
        if (accepted) for (const step of steps) this.chains.bitmap(step, this.model.bytes, []);
        return {};
      },
    };
    const actions = transaction.map(action => (action === 'abort' ? abortTransaction() : actionOf(action)));
    const ended = this.begin([instant, ...actions]);
    return () => {
      const outcome = ended();
      if (outcome === undefined) return false;
      this.#compare(JSON.stringify(transaction), accepted, outcome.refusal);
      return true;
    };
  }

  /** Begins a transaction; the function tells how it ended, once it has. */
  begin(actions: readonly TransactionAction[]): () => { refusal: unknown } | undefined {
    let outcome: { refusal: unknown } | undefined;
    runTransaction(this.graph, actions).then(
      () => {
        outcome = { refusal: undefined };
      },
      (refusal: unknown) => {
        outcome = { refusal };
        this.#refused = true;
      },
    );
    return () => outcome;
  }

  #compare(what: string, accepted: boolean, refusal: unknown): void {
    if (refusal !== undefined && !(refusal instanceof EngineError)) throw refusal;
    if (accepted === (refusal === undefined)) return;
    throw new Violation('model', `${what} is ${accepted ? `refused: ${refusal?.message}` : 'accepted'}`);
  }

  #arrived(request: GateRequest): void {
    if (!isChange(request)) return;
    this.backup?.copy?.guestArrived(request);
    this.requests.arrived(request);
    this.chains.touch(request);
  }
}

function isChange({ operation }: GateRequest): boolean {
  return operation === 'write' || operation === 'writeZeroes' || operation === 'discard';
}

function actionOf(step: BitmapStep): InstantAction {
  const bitmap = { node: DISK, name: step.name };
  switch (step.bitmap) {
    case 'add':
      return addBitmap({ ...bitmap, granularityBytes: step.granularity, recording: !step.disabled });
    case 'merge':
      return mergeBitmaps(
        bitmap,
        step.from.map(name => ({ node: DISK, name })),
      );
    case 'remove':
      return removeBitmap(bitmap);
    case 'clear':
      return clearBitmap(bitmap);
    case 'enable':
      return enableBitmap(bitmap);
    default:
      return disableBitmap(bitmap);
  }
}
