// The `blkdebug` driver: fails requests of its child by rules, for tests of everything above it.
//
// The layer above announces what it is about to do (`debugEvent`). An event arms the inject-error rules that
// name it and moves the state; armed rules then fail requests. A rule without an event is armed from the start.
import { EngineError } from '../errors.ts';
import type { Extent } from '../extent.ts';
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { SECTOR_BYTES } from '../units.ts';
import { PassThrough } from './pass-through.ts';

export const BLKDEBUG_IO_TYPES = [
  'read',
  'write',
  'write-zeroes',
  'discard',
  'flush',
  'block-status',
] as const;
export type BlkdebugIoType = (typeof BLKDEBUG_IO_TYPES)[number];

export interface InjectErrorRule {
  /** Absent: armed from the start. */
  event?: string;
  /** Only in this state; absent or 0: in every state. */
  state?: number;
  /** Absent: every kind but block status. */
  iotype?: BlkdebugIoType;
  /** System error name, such as `EIO`; absent: its requests pass, whatever later rules say. */
  errno?: string;
  /** 512-byte sector that a request must touch; absent: any. */
  sector?: number;
  /** Fails one request, and is gone. */
  once?: boolean;
}

export interface SetStateRule {
  event: string;
  /** Absent or 0: in every state. */
  state?: number;
  newState: number;
}

export interface BlkdebugOptions {
  injectError?: readonly InjectErrorRule[];
  setState?: readonly SetStateRule[];
  /** Request alignment in bytes, a power of two; absent: the child's. */
  alignBytes?: number;
}

export class Blkdebug extends PassThrough {
  readonly driver = 'blkdebug';
  /** Without those that have fired once and for all. */
  #injectError: readonly InjectErrorRule[];
  readonly #setState: readonly SetStateRule[];
  readonly #alignBytes: number;
  #state = 1;
  #armed: InjectErrorRule[];

  constructor(image: BlockNode, options: BlkdebugOptions) {
    super(image);
    this.#injectError = options.injectError ?? [];
    this.#setState = options.setState ?? [];
    this.#alignBytes = options.alignBytes ?? 1;
    this.#armed = this.#injectError.filter(rule => rule.event === undefined);
  }

  override get requestAlignmentBytes(): number {
    return Math.max(this.#alignBytes, this.child.requestAlignmentBytes);
  }

  override debugEvent(event: string): void {
    const armed = this.#injectError.filter(rule => rule.event === event && this.#inState(rule.state));
    const next = this.#setState.findLast(rule => rule.event === event && this.#inState(rule.state));
    // An event that arms rules disarms those of earlier events.
    if (armed.length > 0) this.#armed = armed;
    if (next !== undefined) this.#state = next.newState;
  }

  override read(offset: number, buffer: Buffer): Pending {
    return this.#failing('read', offset, buffer.length) ?? super.read(offset, buffer);
  }
  override write(offset: number, buffer: Buffer): Pending {
    return this.#failing('write', offset, buffer.length) ?? super.write(offset, buffer);
  }
  override writeCompressed(offset: number, buffer: Buffer): Pending {
    return this.#failing('write', offset, buffer.length) ?? super.writeCompressed(offset, buffer);
  }
  override writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    return this.#failing('write-zeroes', offset, length) ?? super.writeZeroes(offset, length, options);
  }
  override discard(offset: number, length: number): Pending {
    return this.#failing('discard', offset, length) ?? super.discard(offset, length);
  }
  override flush(): Pending {
    return this.#failing('flush', 0, 0) ?? super.flush();
  }
  override extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    const failing = this.#failing('block-status', offset, length);
    return failing === undefined ? super.extents(offset, length) : failing.then(() => []);
  }

  #inState(state: number | undefined): boolean {
    return state === undefined || state === 0 || state === this.#state;
  }

  /** A rejection that comes later, as a device's would; undefined where no armed rule speaks of the request. */
  #failing(op: BlkdebugIoType, offset: number, length: number): Promise<void> | undefined {
    const rule = this.#armed.find(candidate => concerns(candidate, op, offset, length));
    if (rule?.errno === undefined) return undefined;
    if (rule.once === true) {
      this.#armed = this.#armed.filter(other => other !== rule);
      this.#injectError = this.#injectError.filter(other => other !== rule);
    }
    return failLater(rule.errno, { op, offset, length });
  }
}

function concerns(rule: InjectErrorRule, op: BlkdebugIoType, offset: number, length: number): boolean {
  if (rule.iotype === undefined ? op === 'block-status' : rule.iotype !== op) return false;
  if (rule.sector === undefined) return true;
  const at = rule.sector * SECTOR_BYTES;
  return op !== 'flush' && offset < at + SECTOR_BYTES && at < offset + length;
}

async function failLater(
  errno: string,
  context: { op: string; offset: number; length: number },
): Promise<void> {
  await Promise.resolve();
  throw new EngineError('io', `${context.op} failed as a rule of blkdebug has it (${errno})`, {
    ...context,
    node: 'blkdebug',
    errno,
  });
}
