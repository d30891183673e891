// A block node that fails, delays or holds the requests passing through it, by rules, as QEMU's blkdebug
// does: each rule fires at one kind of request, in one state, and may lead to the next state.
import { EngineError } from '../errors.ts';
import type { Extent } from '../extent.ts';
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';

export type FaultEvent = 'read' | 'write' | 'writeZeroes' | 'discard' | 'flush';

export interface FaultRule {
  event: FaultEvent;
  /** Only requests that touch this byte; without it every one. */
  offset?: number;
  /** The error to fail with; without it the rule only changes state. */
  errno?: string;
  /** Fires a single time; default false. */
  once?: boolean;
  /** Fires only in this state; without it in every state. The first state is 1. */
  state?: number;
  /** The state after firing. */
  newState?: number;
  /** Fails before the request is passed on (default) or after the node below has done it. */
  moment?: 'before' | 'after';
}

export interface FaultyNodeOptions {
  rules?: FaultRule[];
  /** Called before each request; what it returns is waited for: artificial latency. */
  delay?: (event: FaultEvent, offset: number, length: number) => Promise<void> | undefined;
}

interface Held {
  event: FaultEvent;
  offset: number;
  length: number;
  go: () => void;
}

export class FaultyNode implements BlockNode {
  readonly driver = 'faulty';
  readonly resize?: (sizeBytes: number) => Promise<void>;
  readonly allocatedBytes?: () => Promise<number>;
  readonly #child: BlockNode;
  readonly #delay: FaultyNodeOptions['delay'];
  #rules: FaultRule[];
  #state = 1;
  #paused: ((event: FaultEvent, offset: number, length: number) => boolean) | undefined;
  readonly #held: Held[] = [];
  readonly #heldWaiters: { count: number; resolve: () => void }[] = [];

  constructor(child: BlockNode, options: FaultyNodeOptions = {}) {
    this.#child = child;
    this.#rules = [...(options.rules ?? [])];
    this.#delay = options.delay;
    if (child.resize !== undefined) this.resize = size => child.resize!(size);
    if (child.allocatedBytes !== undefined) this.allocatedBytes = () => child.allocatedBytes!();
  }

  get sizeBytes(): number {
    return this.#child.sizeBytes;
  }

  get readOnly(): boolean {
    return this.#child.readOnly;
  }

  get requestAlignmentBytes(): number {
    return this.#child.requestAlignmentBytes;
  }

  get clusterSizeBytes(): number | undefined {
    return this.#child.clusterSizeBytes;
  }

  get state(): number {
    return this.#state;
  }

  setState(state: number): void {
    this.#state = state;
  }

  addRule(rule: FaultRule): void {
    this.#rules.push(rule);
  }

  clearRules(): void {
    this.#rules = [];
  }

  /** Holds every following request (or those the filter picks) until `release`. */
  pause(filter: (event: FaultEvent, offset: number, length: number) => boolean = () => true): void {
    this.#paused = filter;
  }

  /** Lets held requests go, in the order in which they came, and holds no more. */
  release(): void {
    this.#paused = undefined;
    for (const held of this.#held.splice(0)) held.go();
  }

  get heldCount(): number {
    return this.#held.length;
  }

  /** Waits until that many requests are held. */
  untilHeld(count: number): Promise<void> {
    if (this.#held.length >= count) return Promise.resolve();
    return new Promise(resolve => this.#heldWaiters.push({ count, resolve }));
  }

  read(offset: number, buffer: Buffer): Pending {
    return this.#run('read', offset, buffer.length, () => this.#child.read(offset, buffer));
  }

  write(offset: number, buffer: Buffer): Pending {
    return this.#run('write', offset, buffer.length, () => this.#child.write(offset, buffer));
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    return this.#run('writeZeroes', offset, length, () => this.#child.writeZeroes(offset, length, options));
  }

  discard(offset: number, length: number): Pending {
    return this.#run('discard', offset, length, () => this.#child.discard(offset, length));
  }

  flush(): Pending {
    return this.#run('flush', 0, 0, () => this.#child.flush());
  }

  extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    return this.#child.extents(offset, length);
  }

  close(): Promise<void> {
    return this.#child.close();
  }

  async #run(event: FaultEvent, offset: number, length: number, pass: () => Pending): Promise<void> {
    if (this.#paused?.(event, offset, length)) await this.#hold(event, offset, length);
    await this.#delay?.(event, offset, length);
    const rule = this.#fire(event, offset, length);
    if (rule?.errno !== undefined && rule.moment !== 'after')
      throw injected(rule.errno, event, offset, length);
    await pass();
    if (rule?.errno !== undefined) throw injected(rule.errno, event, offset, length);
  }

  #hold(event: FaultEvent, offset: number, length: number): Promise<void> {
    return new Promise(resolve => {
      this.#held.push({ event, offset, length, go: resolve });
      for (const waiter of [...this.#heldWaiters]) {
        if (this.#held.length < waiter.count) continue;
        this.#heldWaiters.splice(this.#heldWaiters.indexOf(waiter), 1);
        waiter.resolve();
      }
    });
  }

  /** The first rule that matches decides; state changes take effect with it. */
  #fire(event: FaultEvent, offset: number, length: number): FaultRule | undefined {
    const rule = this.#rules.find(
      candidate =>
        candidate.event === event &&
        (candidate.state === undefined || candidate.state === this.#state) &&
        (candidate.offset === undefined ||
          (candidate.offset >= offset && candidate.offset < offset + length)),
    );
    if (rule === undefined) return undefined;
    if (rule.newState !== undefined) this.#state = rule.newState;
    if (rule.once) this.#rules.splice(this.#rules.indexOf(rule), 1);
    return rule;
  }
}

function injected(errno: string, event: FaultEvent, offset: number, length: number): EngineError {
  return new EngineError('io', `${event} of ${length} bytes at ${offset} failed by an injected ${errno}`, {
    op: event,
    offset,
    length,
    errno,
  });
}
