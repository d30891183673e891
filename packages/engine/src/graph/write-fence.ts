// A fence before some block nodes: whoever uses them from outside can read, and every change waits until the fence is
// opened. It opens by itself when its time is over, and is broken then: what it was to keep apart is not any more.
// Made by BlockGraph alone.
import type { Clock } from '../clock.ts';
import { FENCE_WAITS_KEPT_MAX } from '../limits.ts';
import type { Attachment, ChangeHold } from './attachment.ts';
import type { GraphNode } from './graph-node.ts';
import { reaches } from './settle.ts';

export interface WriteFenceOptions {
  readonly clock: Clock;
  /** After so long it opens by itself. */
  readonly limitMs: number;
  /** Told once, with the changes under way again, when it opened by itself. */
  readonly onBroken?: (() => void) | undefined;
}

export interface FenceReport {
  /** From its closing until it was opened, or until now. */
  readonly heldMs: number;
  /** Of the changes that waited for it and went on. */
  readonly waits: number;
  readonly waitP99Ms: number;
  readonly waitMaxMs: number;
}

export class WriteFence implements ChangeHold {
  readonly #roots: readonly GraphNode[];
  readonly #options: WriteFenceOptions;
  readonly #closedAtMs: number;
  readonly #attachments = new Set<Attachment>();
  readonly #resting: Promise<void>[] = [];
  readonly #opened = Promise.withResolvers<void>();
  readonly #timer = new AbortController();
  readonly #closed: Set<unknown>;
  #openedAtMs: number | undefined;
  #broken = false;
  readonly #waitsMs: number[] = [];
  #waits = 0;
  #waitMaxMs = 0;

  /** Closed from here on, and among `closed` until it opens. */
  constructor(
    roots: readonly GraphNode[],
    attachments: readonly Attachment[],
    options: WriteFenceOptions & { closed: Set<unknown> },
  ) {
    const { clock, limitMs } = options;
    this.#roots = roots;
    this.#options = options;
    this.#closed = options.closed.add(this);
    this.#closedAtMs = clock.monotonicMs();
    for (const attachment of attachments) this.#close(attachment);
    void clock.sleep(limitMs, this.#timer.signal).then(() => this.#break());
  }

  /** No change has gone through it since it was closed, and none has waited for longer than its limit. */
  get holds(): boolean {
    return this.#openedAtMs === undefined && !this.#isLate;
  }

  /** It was opened by its limit, and not by anybody. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Resolves when no change is on the way any more, or when the fence has opened before that: see `holds`. */
  async rested(): Promise<void> {
    await Promise.race([Promise.all(this.#resting), this.#opened.promise]);
  }

  /** Lets the changes go on, in the order in which they came. True if it has held until now. Good to repeat. */
  open(): boolean {
    const held = this.holds;
    if (this.#openedAtMs !== undefined) return held;
    this.#broken = !held;
    this.#openedAtMs = this.#options.clock.monotonicMs();
    this.#timer.abort();
    for (const attachment of this.#attachments) attachment.endHold(this);
    this.#closed.delete(this);
    this.#opened.resolve();
    return held;
  }

  report(): FenceReport {
    const heldMs = (this.#openedAtMs ?? this.nowMs()) - this.#closedAtMs;
    const sorted = this.#waitsMs.toSorted((a, b) => a - b);
    const waitP99Ms = sorted[Math.max(0, Math.ceil(sorted.length * 0.99) - 1)] ?? 0;
    return { heldMs, waits: this.#waits, waitP99Ms, waitMaxMs: this.#waitMaxMs };
  }

  /** By BlockGraph alone: a newcomer starts with its changes held, if it stands above. */
  admit(attachment: Attachment): void {
    if (this.#roots.some(root => reaches(attachment.edge.node, root))) this.#close(attachment);
  }

  nowMs(): number {
    return this.#options.clock.monotonicMs();
  }

  noteWait(sinceMs: number): void {
    const waitMs = this.nowMs() - sinceMs;
    this.#waits++;
    this.#waitMaxMs = Math.max(this.#waitMaxMs, waitMs);
    if (this.#waitsMs.length < FENCE_WAITS_KEPT_MAX) this.#waitsMs.push(waitMs);
  }

  /** A process that was held up itself does not get to its timer: then this tells. */
  get #isLate(): boolean {
    return this.nowMs() - this.#closedAtMs > this.#options.limitMs;
  }

  #break(): void {
    if (this.#openedAtMs !== undefined) return;
    // A timer may come a little before its time, too.
    this.open();
    this.#broken = true;
    this.#options.onBroken?.();
  }

  #close(attachment: Attachment): void {
    if (this.#attachments.has(attachment)) return;
    this.#attachments.add(attachment);
    this.#resting.push(attachment.holdChanges(this));
  }
}
