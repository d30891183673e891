// The named handle around a driver: the one place that checks range and writability and that records
// dirtiness, so that drivers never re-check.
import { EngineError } from '../errors.ts';
import type { Extent } from '../extent.ts';
import type { BlockNode, HostRange, SnapshotSource, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { BitmapStore } from './bitmap-store.ts';
import type { Edge } from './edge.ts';
import type { ChildPermissions, PermissionMasks } from './permissions.ts';

/** A job that writes to a node by itself: it stands still while the node is drained. */
export interface DrainedWriter {
  /** Resolves with nothing on its way. Each call wants one `unquiesce`. */
  quiesce(): Promise<void>;
  unquiesce(): void;
}

/** Lets a change begin, at once or later. */
export type ChangeGuard = (offset: number, length: number, change: () => Pending) => Pending;

/** What a node does with requests before its driver sees them. */
export interface NodePolicy {
  /** Discards are dropped, and zeroes keep their space. Default false. */
  ignoreDiscard?: boolean;
  /** Writes of nothing but zeroes become write-zeroes; `unmap`: that may leave holes. Default off. */
  detectZeroes?: 'off' | 'on' | 'unmap';
}

/**
 * Who lets a node go: `user`: whoever added it, by name; `parents`: it was made with the node above and goes
 * with its last user; `job`: the job that put it there.
 */
export type NodeOwner = 'user' | 'parents' | 'job';

export interface GraphNodeOptions extends NodePolicy {
  name: string;
  childPermissions: ChildPermissions;
  sequence: number;
  owner: NodeOwner;
  readOnly: boolean | undefined;
  forceShare?: boolean;
}

export class GraphNode implements BlockNode {
  readonly name: string;
  readonly bitmaps: BitmapStore;
  readonly childPermissions: ChildPermissions;
  /** Edges from users of this node; changed by BlockGraph alone. */
  readonly parents = new Set<Edge>();
  /** Edges to the nodes below; changed by BlockGraph alone. */
  readonly children: Edge[] = [];
  /** A filter that stands between its child and all other users of it; changed by BlockGraph alone. */
  inserted = false;
  /** Jobs that write here past every attachment; added and removed by the jobs. */
  readonly writers = new Set<DrainedWriter>();
  /** The jobs whose target this is, in words: it is neither deleted nor resized nor given to another job. */
  readonly blockers = new Set<string>();
  /** Counts upwards: which of two nodes is younger. */
  readonly sequence: number;
  readonly owner: NodeOwner;
  /** Users share everything, whatever they do. */
  readonly forceShare: boolean;
  /** Jobs that read here past every attachment; added and removed by the jobs. */
  readonly readers = new Set<DrainedWriter>();
  /** Set by a job that changes the node by itself, past it; whoever else changes it waits for its word. */
  guard: ChangeGuard | undefined;
  #policy: Required<NodePolicy>;
  /** Somebody is turning it read-only. */
  #turning = false;
  /** What was asked for; undefined: as the driver. */
  #readOnly: boolean | undefined;
  #driver: BlockNode | undefined;

  /** By BlockGraph alone. */
  constructor(options: GraphNodeOptions) {
    const { name } = options;
    this.name = name;
    this.childPermissions = options.childPermissions;
    this.sequence = options.sequence;
    this.owner = options.owner;
    this.forceShare = options.forceShare ?? false;
    this.#readOnly = options.readOnly;
    const { ignoreDiscard = false, detectZeroes = 'off' } = options;
    this.#policy = { ignoreDiscard, detectZeroes };
    this.bitmaps = new BitmapStore(name, () => this.sizeBytes);
  }

  /** Once, by BlockGraph, after the children's edges exist. */
  setDriver(driver: BlockNode): void {
    this.#driver = driver;
    for (const bitmap of driver.takeBitmaps?.() ?? []) this.bitmaps.insert(bitmap, { inImage: true });
  }

  get ignoreDiscard(): boolean {
    return this.#policy.ignoreDiscard;
  }
  get detectZeroes(): 'off' | 'on' | 'unmap' {
    return this.#policy.detectZeroes;
  }

  /** By GraphChange alone, as the two below; all return the way back. */
  setPolicy(policy: Required<NodePolicy>): () => void {
    const before = this.#policy;
    this.#policy = policy;
    return () => {
      this.#policy = before;
    };
  }

  setReadOnly(readOnly: boolean): () => void {
    const before = this.#readOnly;
    this.#turning = readOnly && this.writable;
    this.#readOnly = readOnly;
    return () => {
      this.#readOnly = before;
    };
  }

  endTurning(): void {
    this.#turning = false;
  }

  replaceDriver(driver: BlockNode): () => void {
    const before = this.#driver;
    // The same image, opened anew: its bitmaps are here already.
    driver.takeBitmaps?.();
    this.#useDriver(driver);
    return () => this.#useDriver(before);
  }

  #useDriver(driver: BlockNode | undefined): void {
    this.#driver = driver;
    for (const bitmap of this.bitmaps.inImage) bitmap.setReadOnly(driver?.readOnly ?? true);
  }

  /** Throws kind `denied` where the node cannot be written to. */
  assertWritable(): void {
    if (this.writable) return;
    const text = this.#turning
      ? `Read-only block node '${this.name}' cannot support read-write users`
      : 'Block node is read-only';
    const hint = `Open block node '${this.name}' for writing, or use it read-only.`;
    throw new EngineError('denied', text, { node: this.name, hint });
  }

  /** Opened for writing; a node still being opened is if that is what was asked for. */
  get writable(): boolean {
    return !(this.#readOnly ?? this.#driver?.readOnly ?? false);
  }

  /** By BlockGraph alone; returns the way back. Throws where the driver cannot have these permissions. */
  setPermissions(total: PermissionMasks): () => void {
    const driver = this.#driver;
    if (driver?.setPermissions === undefined) return () => {};
    return driver.setPermissions(total);
  }

  /** False while it is being opened: it stands in the graph, and nothing can be asked of it. */
  get isOpen(): boolean {
    return this.#driver !== undefined;
  }

  /** It has its driver, and the bitmaps that the image keeps. */
  get opened(): boolean {
    return this.#driver !== undefined;
  }

  get #inner(): BlockNode {
    if (this.#driver === undefined) throw new Error(`block node ${this.name} has no driver yet`);
    return this.#driver;
  }

  get driver(): string {
    return this.#inner.driver;
  }
  get sizeBytes(): number {
    return this.#inner.sizeBytes;
  }
  get readOnly(): boolean {
    return this.#readOnly ?? this.#inner.readOnly;
  }
  get requestAlignmentBytes(): number {
    return this.#inner.requestAlignmentBytes;
  }
  get clusterSizeBytes(): number | undefined {
    return this.#inner.clusterSizeBytes;
  }
  get canCompress(): boolean {
    return this.#inner.canCompress ?? false;
  }
  get snapshot(): SnapshotSource | undefined {
    return this.#inner.snapshot;
  }

  /**
   * Throws kind `busy` while anybody uses the node; with `byName`, also where it is not the user's to remove.
   * `withBitmaps`: it goes though somebody still looks at a bitmap of it.
   */
  assertUnused({ byName = false, withBitmaps = false } = {}): void {
    const { name } = this;
    const users = [...this.parents];
    const hint = `It is used by ${users.map(edge => edge.user).join(', ')}: end that first.`;
    const busy = (text: string) => new EngineError('busy', text, { node: name, hint });
    if (users.some(edge => edge.parent === undefined && edge.role === 'root'))
      throw busy(`Node ${name} is in use`);
    this.assertNotBlocked();
    const over = users.find(edge => edge.role === 'backing')?.parent;
    if (over !== undefined) {
      throw busy(`Node '${name}' is busy: node is used as backing hd of '${over.name}'`);
    }
    if (byName && this.owner !== 'user') throw busy(`Node ${name} is not owned by the monitor`);
    if (users.length > 0) throw busy(`Block device ${name} is in use`);
    if (!withBitmaps) this.bitmaps.all.find(bitmap => bitmap.busy)?.assertUsable();
  }

  /** Throws kind `busy` while a job has the node as its target or its filter. */
  assertNotBlocked(): void {
    const [reason] = this.blockers;
    if (reason === undefined) return;
    const text = `Node '${this.name}' is busy: block device is in use by ${reason}`;
    throw new EngineError('busy', text, {
      node: this.name,
      hint: 'Wait for the end of the job or cancel it.',
    });
  }

  read(offset: number, buffer: Buffer): Pending {
    this.#checkRange('read', offset, buffer.length);
    return this.#inner.read(offset, buffer);
  }

  write(offset: number, buffer: Buffer): Pending {
    this.#checkWrite('write', offset, buffer.length);
    if (this.detectZeroes !== 'off' && isZero(buffer)) {
      return this.writeZeroes(offset, buffer.length, { mayUnmap: this.detectZeroes === 'unmap' });
    }
    if (this.guard !== undefined) {
      return this.#change(offset, buffer.length, () => this.#inner.write(offset, buffer));
    }
    this.bitmaps.recordWrite(offset, buffer.length);
    return this.bitmaps.watched(this.#inner.write(offset, buffer), offset, buffer.length);
  }

  #change(offset: number, length: number, change: () => Pending): Pending {
    this.bitmaps.recordWrite(offset, length);
    const begin = () => this.bitmaps.watched(change(), offset, length);
    return this.guard === undefined ? begin() : this.guard(offset, length, begin);
  }

  /** As `write`, of what reads as this already: bitmaps take no note. */
  writeUnchanged(offset: number, buffer: Buffer): Pending {
    this.#checkWrite('write', offset, buffer.length);
    return this.#inner.write(offset, buffer);
  }

  /** As `writeZeroes`, of what reads as zeroes already. */
  zeroUnchanged(offset: number, length: number): Pending {
    this.#checkWrite('write-zeroes', offset, length);
    return this.#inner.writeZeroes(offset, length, { mayUnmap: true });
  }

  hostRange(offset: number, length: number): HostRange | undefined {
    this.#checkRange('read', offset, length);
    return this.#inner.hostRange?.(offset, length);
  }

  writeHostRange(offset: number, from: HostRange, length: number): Promise<void> | undefined {
    this.#checkWrite('write', offset, length);
    // Nobody sees the bytes, so nobody can look for zeroes in them.
    if (this.detectZeroes !== 'off' || this.guard !== undefined) return undefined;
    const written = this.#inner.writeHostRange?.(offset, from, length);
    if (written === undefined) return undefined;
    this.bitmaps.recordWrite(offset, length);
    return this.bitmaps.watched(written, offset, length);
  }

  /** Rejects with kind `unsupported` where `canCompress` is false. */
  writeCompressed(offset: number, buffer: Buffer): Pending {
    this.#checkWrite('write-compressed', offset, buffer.length);
    const driver = this.#inner;
    if (driver.writeCompressed === undefined) {
      throw new EngineError('unsupported', `Compression is not supported for driver '${driver.driver}'`, {
        op: 'write-compressed',
        node: this.name,
      });
    }
    return this.#change(offset, buffer.length, () => driver.writeCompressed!(offset, buffer));
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    this.#checkWrite('write-zeroes', offset, length);
    const mayUnmap = options.mayUnmap && !this.ignoreDiscard;
    const how = mayUnmap === options.mayUnmap ? options : { mayUnmap };
    return this.#change(offset, length, () => this.#inner.writeZeroes(offset, length, how));
  }

  discard(offset: number, length: number): Pending {
    this.#checkWrite('discard', offset, length);
    if (this.ignoreDiscard) return undefined;
    return this.#change(offset, length, () => this.#inner.discard(offset, length));
  }

  flush(): Pending {
    for (const { role, node } of this.children) if (role === 'file') node.debugEvent('flush_to_disk');
    return this.#inner.flush();
  }

  extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    this.#checkRange('block-status', offset, length);
    return this.#inner.extents(offset, length);
  }

  /** To be called with nothing in flight, as BlockGraph.resize does. Bitmaps follow (scenario BR-02, BR-03). */
  async resize(sizeBytes: number): Promise<void> {
    const driver = this.#inner;
    if (driver.resize === undefined) {
      const text = 'Image format driver does not support resize';
      throw new EngineError('unsupported', text, { node: this.name });
    }
    if (this.readOnly) throw new EngineError('denied', 'Image is read-only', { node: this.name });
    for (const bitmap of this.bitmaps.all) bitmap.assertUsable();
    await driver.resize(sizeBytes);
    this.bitmaps.fit();
  }

  /** Throws kind `unsupported` where the image cannot keep a bitmap like this (scenario BM-06). */
  assertStoresBitmap(bitmap: { name: string; granularityBytes: number }): void {
    const driver = this.#inner;
    const context = { node: this.name, hint: 'Add the bitmap without making it persistent.' };
    if (driver.refusesBitmap === undefined) {
      const text = `Can't store persistent bitmaps to ${this.name}: Operation not supported`;
      throw new EngineError('unsupported', text, context);
    }
    const readOnly = this.readOnly ? 'the block node is read-only' : undefined;
    const reason = driver.refusesBitmap({ ...bitmap, others: this.bitmaps.inImage.length }) ?? readOnly;
    if (reason === undefined) return;
    const text = `Can't make bitmap '${bitmap.name}' persistent in '${this.name}': ${reason}`;
    throw new EngineError('unsupported', text, context);
  }

  async allocatedBytes(): Promise<number> {
    return (await this.#inner.allocatedBytes?.()) ?? this.sizeBytes;
  }

  debugEvent(event: string): void {
    this.#inner.debugEvent?.(event);
  }

  drainBegin(): void {
    this.#driver?.drainBegin?.();
  }

  drainEnd(): void {
    this.#driver?.drainEnd?.();
  }

  cancelInFlight(): void {
    this.#inner.cancelInFlight?.();
  }

  /** Lets the image keep its bitmaps as they are now; with nothing in flight. Rejects as the driver does. */
  async storeBitmaps(): Promise<void> {
    if (!this.#inner.readOnly) await this.#inner.storeBitmaps?.(this.bitmaps.inImage);
  }

  /** After `storeBitmaps`, where the node is used further. */
  async resumeBitmaps(): Promise<void> {
    if (this.#driver?.readOnly === false) await this.#driver.resumeBitmaps?.();
  }

  /** Rejects where bitmaps could not be stored, or as the driver does; it is closed in any case. */
  async close(): Promise<void> {
    try {
      await this.storeBitmaps();
    } finally {
      await this.#inner.close();
    }
  }

  #checkRange(op: string, offset: number, length: number): void {
    if (offset >= 0 && length >= 0 && offset + length <= this.sizeBytes) return;
    const range = `${length} bytes at ${offset}`;
    const text = `${op} of ${range} is past the end of '${this.name}', which has ${this.sizeBytes} bytes`;
    throw new EngineError('out-of-bounds', text, { op, node: this.name, offset, length });
  }

  #checkWrite(op: string, offset: number, length: number): void {
    this.#checkRange(op, offset, length);
    if (!this.readOnly) return;
    throw new EngineError('denied', `Block node '${this.name}' is read-only`, { op, node: this.name });
  }
}

/** Compares with itself, one byte on: the first byte decides for all. */
function isZero(buffer: Buffer): boolean {
  return buffer.length > 0 && buffer[0] === 0 && buffer.compare(buffer, 0, buffer.length - 1, 1) === 0;
}
