// A block node in memory that holds every request until somebody lets it go, in whatever order, and that tells
// what arrives and what is done. A request takes effect at the moment it is let go.
import { EngineError } from '../../errors.ts';
import type { Extent } from '../../extent.ts';
import type { BlockNode } from '../../node/block-node.ts';
import type { Pending } from '../../pending.ts';
import { MemoryNode } from '../memory-node.ts';

export interface GateRequest {
  readonly operation: 'read' | 'write' | 'writeZeroes' | 'discard' | 'flush' | 'status';
  readonly offset: number;
  readonly length: number;
  /** What is written, or read into. */
  readonly buffer?: Buffer;
}

/** Neither may throw. */
export interface GateWatch {
  arrived(request: GateRequest): void;
  /** `failed`: without any effect. */
  ended(request: GateRequest, failed: boolean): void;
}

interface Held {
  readonly request: GateRequest;
  readonly end: (errno?: string) => void;
}

export class GateNode implements BlockNode {
  readonly driver = 'gate';
  readonly readOnly = false;
  readonly requestAlignmentBytes = 1;
  readonly clusterSizeBytes = undefined;
  readonly memory: MemoryNode;
  readonly #watch: GateWatch;
  readonly #held: Held[] = [];
  /** Block status is held as well. */
  lateStatus = false;
  /** `cancelInFlight` fails what is held. */
  cancels = false;

  constructor(sizeBytes: number, watch: GateWatch) {
    this.memory = new MemoryNode({ sizeBytes });
    this.#watch = watch;
  }

  get sizeBytes(): number {
    return this.memory.sizeBytes;
  }

  get held(): readonly GateRequest[] {
    return this.#held.map(({ request }) => request);
  }

  get heldCount(): number {
    return this.#held.length;
  }

  /** With `errno` it fails without effect. */
  release(index: number, errno?: string): void {
    this.#held.splice(index, 1)[0]!.end(errno);
  }

  read(offset: number, buffer: Buffer): Pending {
    const request: GateRequest = { operation: 'read', offset, length: buffer.length, buffer };
    return this.#pass(request, () => this.memory.read(offset, buffer));
  }

  write(offset: number, buffer: Buffer): Pending {
    const request: GateRequest = { operation: 'write', offset, length: buffer.length, buffer };
    return this.#pass(request, () => this.memory.write(offset, buffer));
  }

  writeZeroes(offset: number, length: number): Pending {
    const pass = () => this.memory.writeZeroes(offset, length, { mayUnmap: true });
    return this.#pass({ operation: 'writeZeroes', offset, length }, pass);
  }

  discard(offset: number, length: number): Pending {
    return this.#pass({ operation: 'discard', offset, length }, () => this.memory.discard(offset, length));
  }

  flush(): Pending {
    return this.#pass({ operation: 'flush', offset: 0, length: 0 }, () => undefined);
  }

  /** As of the call, also where it is told late: what changed meanwhile is the caller's to know. */
  extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    const extents = this.memory.extents(offset, length);
    if (!this.lateStatus) return extents;
    return this.#pass({ operation: 'status', offset, length }, () => undefined).then(() => extents);
  }

  cancelInFlight(): void {
    if (this.cancels) for (const { end } of this.#held.splice(0)) end('ECANCELED');
  }

  async close(): Promise<void> {}

  #pass(request: GateRequest, pass: () => unknown): Promise<void> {
    this.#watch.arrived(request);
    return new Promise((resolve, reject) => {
      const end = (errno?: string): void => {
        if (errno === undefined) pass();
        this.#watch.ended(request, errno !== undefined);
        if (errno === undefined) resolve();
        else reject(failure(request, errno));
      };
      this.#held.push({ request, end });
    });
  }
}

function failure({ operation, offset, length }: GateRequest, errno: string): EngineError {
  const text = `${operation} of ${length} bytes at ${offset} failed by an injected ${errno}`;
  return new EngineError('io', text, { op: operation, offset, length, errno });
}
