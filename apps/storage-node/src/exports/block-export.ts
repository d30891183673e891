// A block node as an NBD export: the same adapter for volumes, partial backups and opened ones.
import type { BlockNode, Extent } from '@tidemark/engine';
import {
  CONTEXT_ALLOCATION,
  CONTEXT_ALLOCATION_DEPTH,
  NbdError,
  type NbdExport,
  type Pending,
  STATE,
  type StatusExtent,
  type WriteZeroesOptions,
} from '@tidemark/nbd';

/** What clients asked for, in requests and bytes: plain numbers, so that counting costs an addition. */
export class NbdTraffic {
  readRequests = 0;
  readBytes = 0;
  writeRequests = 0;
  writeBytes = 0;
  writeZeroesRequests = 0;
  writeZeroesBytes = 0;
  trimRequests = 0;
  trimBytes = 0;
  flushRequests = 0;
  cacheRequests = 0;
  blockStatusRequests = 0;
}

/** What an export needs of a block node or of a handle to one. */
export type ExportedNode = Pick<
  BlockNode,
  | 'sizeBytes'
  | 'readOnly'
  | 'requestAlignmentBytes'
  | 'read'
  | 'write'
  | 'writeZeroes'
  | 'discard'
  | 'flush'
  | 'extents'
>;

/** A metadata context beyond the two every export has, such as `qemu:dirty-bitmap:x`. */
export interface ExtraContext {
  readonly name: string;
  /** Extents from `offset` on without a gap; may stop early, but never before the first. */
  status(offset: number, length: number): StatusExtent[] | Promise<StatusExtent[]>;
}

export interface BlockExportOptions {
  readonly name: string;
  readonly description?: string | undefined;
  /** Shown to clients that ask which exports there are. */
  readonly listed: boolean;
  readonly node: ExportedNode;
  /** Refuses writes even where the node takes them. */
  readonly readOnly?: boolean | undefined;
  /** Every write is durable before it is answered, FUA or not. Default false. */
  readonly writeThrough?: boolean | undefined;
  /** Whether clients may ask for `qemu:allocation-depth`; default true. */
  readonly allocationDepth?: boolean | undefined;
  /** Asked anew by each client that negotiates: checkpoints come and go while a volume is exported. */
  readonly extraContexts?: (() => readonly ExtraContext[]) | undefined;
  /** Where its requests are counted. */
  readonly traffic?: NbdTraffic | undefined;
}

/** The largest payload a request may have: the protocol's customary one. */
const MAX_BLOCK_BYTES = 32 * 1024 * 1024;
/** As QEMU says for every disk: a page of the cache; larger clusters are the format's own business. */
const PREFERRED_BLOCK_BYTES = 4096;

export class BlockExport implements NbdExport {
  readonly name: string;
  readonly description?: string;
  readonly listed: boolean;
  readonly readOnly: boolean;
  /** All connections go to one block node, so a flush on one covers the writes of all. */
  readonly multiConn = true;
  readonly minBlockBytes: number;
  readonly preferredBlockBytes: number;
  readonly maxBlockBytes = MAX_BLOCK_BYTES;
  readonly fastZero = false;
  readonly #node: ExportedNode;
  readonly #traffic: NbdTraffic;
  readonly #writeThrough: boolean;
  readonly #ownContexts: readonly string[];
  readonly #extraContexts: () => readonly ExtraContext[];

  constructor(options: BlockExportOptions) {
    const { node } = options;
    this.name = options.name;
    if (options.description !== undefined) this.description = options.description;
    this.listed = options.listed;
    this.readOnly = options.readOnly === true || node.readOnly;
    this.minBlockBytes = node.requestAlignmentBytes;
    this.preferredBlockBytes = Math.max(PREFERRED_BLOCK_BYTES, this.minBlockBytes);
    this.#node = node;
    this.#traffic = options.traffic ?? new NbdTraffic();
    this.#writeThrough = options.writeThrough ?? false;
    this.#ownContexts =
      options.allocationDepth === false
        ? [CONTEXT_ALLOCATION]
        : [CONTEXT_ALLOCATION, CONTEXT_ALLOCATION_DEPTH];
    this.#extraContexts = options.extraContexts ?? (() => []);
  }

  get contexts(): readonly string[] {
    return [...this.#ownContexts, ...this.#extraContexts().map(extra => extra.name)];
  }

  /** Follows the node: a volume may grow while it is exported. */
  get sizeBytes(): number {
    return this.#node.sizeBytes;
  }

  read(offset: number, buffer: Buffer): Pending {
    this.#traffic.readRequests += 1;
    this.#traffic.readBytes += buffer.length;
    return this.#node.read(offset, buffer);
  }

  write(offset: number, buffer: Buffer, fua: boolean): Pending {
    this.#traffic.writeRequests += 1;
    this.#traffic.writeBytes += buffer.length;
    return this.#thenFlush(this.#node.write(offset, buffer), fua);
  }

  writeZeroes(offset: number, length: number, { mayUnmap, fua }: WriteZeroesOptions): Pending {
    this.#traffic.writeZeroesRequests += 1;
    this.#traffic.writeZeroesBytes += length;
    return this.#thenFlush(this.#node.writeZeroes(offset, length, { mayUnmap }), fua);
  }

  trim(offset: number, length: number, fua: boolean): Pending {
    this.#traffic.trimRequests += 1;
    this.#traffic.trimBytes += length;
    return this.#thenFlush(this.#node.discard(offset, length), fua);
  }

  flush(): Pending {
    this.#traffic.flushRequests += 1;
    return this.#node.flush();
  }

  /** The page cache reads ahead by itself. */
  cache(): Pending {
    this.#traffic.cacheRequests += 1;
    return undefined;
  }

  blockStatus(context: string, offset: number, length: number): StatusExtent[] | Promise<StatusExtent[]> {
    this.#traffic.blockStatusRequests += 1;
    const toFlags = TO_FLAGS[context];
    if (toFlags === undefined) return this.#extraStatus(context, offset, length);
    const extents = this.#node.extents(offset, length);
    return Array.isArray(extents) ? convert(extents, toFlags) : extents.then(all => convert(all, toFlags));
  }

  #extraStatus(context: string, offset: number, length: number): StatusExtent[] | Promise<StatusExtent[]> {
    const extra = this.#extraContexts().find(({ name }) => name === context);
    if (extra !== undefined) return extra.status(offset, length);
    throw new NbdError('EINVAL', `export ${this.name} no longer has the metadata context ${context}`);
  }

  #thenFlush(pending: Pending, fua: boolean): Pending {
    if (!fua && !this.#writeThrough) return pending;
    return pending === undefined ? this.#node.flush() : pending.then(() => this.#node.flush());
  }
}

/** What each context that every export has says of an extent. */
const TO_FLAGS: Readonly<Record<string, (extent: Extent) => number>> = {
  [CONTEXT_ALLOCATION]: extent => (extent.data ? 0 : STATE.HOLE) | (extent.zero ? STATE.ZERO : 0),
  [CONTEXT_ALLOCATION_DEPTH]: extent => extent.depth,
};

/** Neighbours that differ only in what this context does not tell are joined. */
function convert(extents: readonly Extent[], toFlags: (extent: Extent) => number): StatusExtent[] {
  const converted: { length: number; flags: number }[] = [];
  for (const extent of extents) {
    const flags = toFlags(extent);
    const last = converted.at(-1);
    if (last?.flags === flags) last.length += extent.length;
    else converted.push({ length: extent.length, flags });
  }
  return converted;
}
