// How the world outside the graph (an export, a job) uses a block node: with declared permissions, and
// through a gate that a drain closes. Requests that come while it is closed wait and lose nothing.
import { EngineError } from '../errors.ts';
import type { Extent } from '../extent.ts';
import type { BlockNode, SnapshotSource, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import type { Edge } from './edge.ts';
import { PERMISSION } from './permissions.ts';

/** Keeps changes from beginning, while reads go on; told how long each of them waited. */
export interface ChangeHold {
  nowMs(): number;
  noteWait(sinceMs: number): void;
}

interface Waiting {
  readonly isChange: boolean;
  readonly wake: () => void;
}

const WRITES = PERMISSION.write | PERMISSION.writeUnchanged;

export class Attachment implements BlockNode {
  readonly edge: Edge;
  readonly #release: () => Promise<void>;
  /** Who holds all requests. */
  #closings = 0;
  /** Who holds changes: those who hold all requests, and fences. */
  #changeHolds = 0;
  readonly #fences = new Set<ChangeHold>();
  /** Reads and flushes. */
  #inFlight = 0;
  #changesInFlight = 0;
  #waiting: Waiting[] = [];
  #idle: (() => void)[] = [];
  readonly #ended = (): void => {
    this.#inFlight--;
    if (this.#inFlight === 0) this.#wakeIdle();
  };
  readonly #failed = (error: unknown): never => {
    this.#ended();
    throw error;
  };
  readonly #changeEnded = (): void => {
    this.#changesInFlight--;
    if (this.#changesInFlight === 0) this.#wakeIdle();
  };
  readonly #changeFailed = (error: unknown): never => {
    this.#changeEnded();
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
    if (this.#changeHolds > 0) return this.#changeLater(() => this.write(offset, buffer));
    this.#assertWrites();
    return this.#trackChange(this.edge.node.write(offset, buffer));
  }

  writeCompressed(offset: number, buffer: Buffer): Pending {
    if (this.#changeHolds > 0) return this.#changeLater(() => this.writeCompressed(offset, buffer));
    this.#assertWrites();
    return this.#trackChange(this.edge.node.writeCompressed(offset, buffer));
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    if (this.#changeHolds > 0) return this.#changeLater(() => this.writeZeroes(offset, length, options));
    this.#assertWrites();
    return this.#trackChange(this.edge.node.writeZeroes(offset, length, options));
  }

  discard(offset: number, length: number): Pending {
    if (this.#changeHolds > 0) return this.#changeLater(() => this.discard(offset, length));
    this.#assertWrites();
    return this.#trackChange(this.edge.node.discard(offset, length));
  }

  /** Not past changes that are held. */
  flush(): Pending {
    if (this.#changeHolds > 0 && (this.#closings > 0 || this.#holdsChanges)) {
      return this.#changeLater(() => this.flush());
    }
    return this.#track(this.edge.node.flush());
  }

  extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    if (this.#closings > 0) return this.#opened(false).then(() => this.extents(offset, length));
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
    this.#changeHolds++;
    while (this.#inFlight + this.#changesInFlight > 0) await new Promise<void>(wake => this.#idle.push(wake));
  }

  /** Opens the gate when every closer has; what waited goes on in the order of its arrival. */
  resume(): void {
    this.#closings--;
    this.#changeHolds--;
    this.#wake();
  }

  /** From here on changes wait, and reads go on; resolves once no change is in flight. Wants one `endHold`. */
  async holdChanges(hold: ChangeHold): Promise<void> {
    this.#fences.add(hold);
    this.#changeHolds++;
    while (this.#changesInFlight > 0) await new Promise<void>(wake => this.#idle.push(wake));
  }

  endHold(hold: ChangeHold): void {
    if (!this.#fences.delete(hold)) return;
    this.#changeHolds--;
    this.#wake();
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

  get #holdsChanges(): boolean {
    return this.#waiting.some(({ isChange }) => isChange);
  }

  #track(pending: Pending): Pending {
    if (pending === undefined) return undefined;
    this.#inFlight++;
    return pending.then(this.#ended, this.#failed);
  }

  #trackChange(pending: Pending): Pending {
    if (pending === undefined) return undefined;
    this.#changesInFlight++;
    return pending.then(this.#changeEnded, this.#changeFailed);
  }

  async #later(request: () => Pending): Promise<void> {
    await this.#opened(false);
    await request();
  }

  async #changeLater(request: () => Pending): Promise<void> {
    const fences = [...this.#fences].map(fence => ({ fence, sinceMs: fence.nowMs() }));
    await this.#opened(true, () => {
      for (const { fence, sinceMs } of fences) fence.noteWait(sinceMs);
    });
    await request();
  }

  #opened(isChange: boolean, tell: () => void = () => {}): Promise<void> {
    return new Promise(resolve => {
      const wake = () => {
        tell();
        resolve();
      };
      this.#waiting.push({ isChange, wake });
    });
  }

  #wake(): void {
    if (this.#closings > 0) return;
    const waiting = this.#waiting;
    this.#waiting = this.#changeHolds > 0 ? waiting.filter(({ isChange }) => isChange) : [];
    for (const { isChange, wake } of waiting) if (!isChange || this.#changeHolds === 0) wake();
  }

  #wakeIdle(): void {
    for (const wake of this.#idle.splice(0)) wake();
  }
}
