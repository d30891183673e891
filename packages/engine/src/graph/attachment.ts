// How the world outside the graph (an export, a job) uses a block node: with declared permissions, and
// through a gate that a drain closes. Requests that come while it is closed wait and lose nothing.
import { EngineError } from '../errors.ts';
import type { Extent } from '../extent.ts';
import type { BlockNode, SnapshotSource, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import type { Edge } from './edge.ts';
import { PERMISSION } from './permissions.ts';

const WRITES = PERMISSION.write | PERMISSION.writeUnchanged;

export class Attachment implements BlockNode {
  readonly edge: Edge;
  readonly #release: () => Promise<void>;
  #closings = 0;
  #inFlight = 0;
  #waiting: (() => void)[] = [];
  #idle: (() => void)[] = [];
  readonly #ended = (): void => {
    this.#inFlight--;
    if (this.#inFlight === 0) for (const wake of this.#idle.splice(0)) wake();
  };
  readonly #failed = (error: unknown): never => {
    this.#ended();
    throw error;
  };

  /** By BlockGraph.attach alone. */
  constructor(edge: Edge, release: () => Promise<void>) {
    this.edge = edge;
    this.#release = release;
  }

  get driver(): string {
    return this.edge.driver;
  }
  get sizeBytes(): number {
    return this.edge.sizeBytes;
  }
  get readOnly(): boolean {
    return (this.edge.uses & PERMISSION.write) === 0 || this.edge.readOnly;
  }
  get requestAlignmentBytes(): number {
    return this.edge.requestAlignmentBytes;
  }
  get clusterSizeBytes(): number | undefined {
    return this.edge.clusterSizeBytes;
  }
  get canCompress(): boolean {
    return this.edge.canCompress;
  }
  get snapshot(): SnapshotSource | undefined {
    return this.edge.snapshot;
  }

  read(offset: number, buffer: Buffer): Pending {
    if (this.#closings > 0) return this.#later(() => this.read(offset, buffer));
    return this.#track(this.edge.node.read(offset, buffer));
  }

  write(offset: number, buffer: Buffer): Pending {
    if (this.#closings > 0) return this.#later(() => this.write(offset, buffer));
    this.#assertWrites();
    return this.#track(this.edge.node.write(offset, buffer));
  }

  writeCompressed(offset: number, buffer: Buffer): Pending {
    if (this.#closings > 0) return this.#later(() => this.writeCompressed(offset, buffer));
    this.#assertWrites();
    return this.#track(this.edge.node.writeCompressed(offset, buffer));
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    if (this.#closings > 0) return this.#later(() => this.writeZeroes(offset, length, options));
    this.#assertWrites();
    return this.#track(this.edge.node.writeZeroes(offset, length, options));
  }

  discard(offset: number, length: number): Pending {
    if (this.#closings > 0) return this.#later(() => this.discard(offset, length));
    this.#assertWrites();
    return this.#track(this.edge.node.discard(offset, length));
  }

  flush(): Pending {
    if (this.#closings > 0) return this.#later(() => this.flush());
    return this.#track(this.edge.node.flush());
  }

  extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    if (this.#closings > 0) return this.#opened().then(() => this.extents(offset, length));
    const found = this.edge.node.extents(offset, length);
    if (Array.isArray(found)) return found;
    this.#inFlight++;
    return found.finally(this.#ended);
  }

  allocatedBytes(): Promise<number> {
    return this.edge.allocatedBytes();
  }

  /** Closes the gate; resolves once nothing is in flight. Each call wants one `resume`. */
  async quiesce(): Promise<void> {
    this.#closings++;
    while (this.#inFlight > 0) await new Promise<void>(wake => this.#idle.push(wake));
  }

  /** Opens the gate when every closer has; what waited goes on in the order of its arrival. */
  resume(): void {
    this.#closings--;
    if (this.#closings === 0) for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Lets requests in flight end, then lets go of the node. */
  async close(): Promise<void> {
    await this.quiesce();
    await this.#release();
  }

  #assertWrites(): void {
    if ((this.edge.uses & WRITES) !== 0) return;
    const node = this.edge.node.name;
    throw new EngineError('denied', `${this.edge.user} may not write to block node '${node}'`, { node });
  }

  #track(pending: Pending): Pending {
    if (pending === undefined) return undefined;
    this.#inFlight++;
    return pending.then(this.#ended, this.#failed);
  }

  async #later(request: () => Pending): Promise<void> {
    await this.#opened();
    await request();
  }

  #opened(): Promise<void> {
    return new Promise(wake => this.#waiting.push(wake));
  }
}
