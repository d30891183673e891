// The exports of a daemon by id, over one NBD server that can be started and stopped.
import {
  type Attachment,
  type BlockGraph,
  type DirtyBitmap,
  type GraphNode,
  PERMISSION,
  PERMISSIONS_ALL,
} from '@tidemark/engine';
import { type NbdListenOptions, NbdServer, NbdServerError } from '@tidemark/nbd';
import { BlockExport } from '../exports/block-export.ts';
import { toNbdErrno } from '../exports/errno.ts';
import { dirtyBitmapContext } from '../volume/dirty-bitmap-context.ts';
import { genericError, QmpError } from './qmp-error.ts';
import { listenCandidates, listenError, type SocketAddress } from './socket-address.ts';

/** `safe` refuses while a client is connected, `hard` drops clients. */
export type ExportRemoval = 'safe' | 'hard';

export interface ExportRequest {
  readonly id: string;
  readonly nodeName: string;
  /** There are none here: naming one is refused. */
  readonly iothread?: string | undefined;
  readonly exportName: string;
  readonly description?: string | undefined;
  readonly writable: boolean;
  /** Every write is durable before it is answered. Default false. */
  readonly writeThrough?: boolean | undefined;
  readonly allocationDepth: boolean;
  /** By name, looked for from the block node down through filters and backing images; or of a node. */
  readonly bitmaps: readonly (string | { readonly node: string; readonly name: string })[];
}

export interface ExportInfo {
  readonly id: string;
  readonly nodeName: string;
  readonly shuttingDown: boolean;
}

interface ActiveExport {
  readonly request: ExportRequest;
  readonly attachment: Attachment;
  readonly bitmaps: readonly DirtyBitmap[];
  /** Once it is being removed: resolves when it has gone. */
  removal?: Promise<void>;
}

/** Identifiers of QEMU: a letter first. */
const ID = /^[A-Za-z][A-Za-z0-9\-._]*$/;
/** Bound of names and descriptions in the NBD protocol. */
const STRING_BYTES_MAX = 4096;

export class ExportRegistry {
  readonly #graph: BlockGraph;
  readonly #deleted: (id: string) => void;
  readonly #exports = new Map<string, ActiveExport>();
  #server: NbdServer | undefined;
  /** Under way: nothing new comes to the server that goes. */
  #stopping: Promise<void> | undefined;

  /** `deleted` is told of each export that has gone. */
  constructor(options: { graph: BlockGraph; deleted: (id: string) => void }) {
    this.#graph = options.graph;
    this.#deleted = options.deleted;
  }

  assertNoServer(): void {
    if (this.#server !== undefined) throw genericError('NBD server already running');
  }

  /**
   * Rejects when one runs already, or with what the system says of the address. Clients beyond
   * `connectionsMax` wait until another one leaves.
   */
  async startServer(
    address: SocketAddress,
    { connectionsMax }: { connectionsMax?: number | undefined } = {},
  ): Promise<void> {
    this.assertNoServer();
    const bound = connectionsMax === undefined ? {} : { connectionsMax };
    const server = new NbdServer({ ...bound, whenFull: 'wait', toErrno: toNbdErrno });
    this.#server = server;
    try {
      await listenOnFirst(server, listenCandidates(address));
    } catch (cause) {
      this.#server = undefined;
      await server.close();
      throw cause instanceof QmpError ? cause : listenError(address, cause);
    }
  }

  /** Drops every export, oldest first, and all clients. */
  async stopServer(): Promise<void> {
    const server = this.#running();
    this.#stopping = this.#stop(server);
    await this.#stopping;
  }

  async #stop(server: NbdServer): Promise<void> {
    try {
      // Others may remove some of them meanwhile.
      for (let [next] = this.#exports.values(); next !== undefined; [next] = this.#exports.values()) {
        await this.#remove(next, 'hard');
      }
      await server.close();
    } finally {
      this.#server = undefined;
      this.#stopping = undefined;
    }
  }

  /** As `stopServer`, where one runs. */
  async close(): Promise<void> {
    if (this.#stopping !== undefined) await this.#stopping;
    else if (this.#server !== undefined) await this.stopServer();
  }

  /** The latest first, as QEMU lists them. */
  list(): ExportInfo[] {
    return [...this.#exports.values()].reverse().map(({ request, attachment, removal }) => ({
      id: request.id,
      // A filter may have come in between.
      nodeName: attachment.edge.node.name,
      shuttingDown: removal !== undefined,
    }));
  }

  has(id: string): boolean {
    return this.#exports.has(id);
  }

  /** Whether anybody has opened it. */
  hasClients(id: string): boolean {
    const name = this.#exports.get(id)?.request.exportName;
    return this.#server?.connections().some(({ exportName }) => exportName === name) ?? false;
  }

  /** Throws with nothing changed. */
  add(request: ExportRequest): void {
    const { id, exportName, description, writable } = request;
    if (!ID.test(id)) throw genericError('Invalid block export id');
    if (this.#exports.has(id)) throw genericError(`Block export id '${id}' is already in use`);
    const node = this.#graph.find(request.nodeName);
    if (node === undefined) {
      throw genericError(`Cannot find device='' nor node-name='${request.nodeName}'`);
    }
    if (request.iothread !== undefined) throw genericError(`iothread "${request.iothread}" not found`);
    if (writable && node.readOnly) throw genericError('Cannot export read-only node as writable');
    const attachment = this.#graph.attach(node.name, {
      user: 'an unnamed block device',
      uses: PERMISSION.consistentRead | (writable ? PERMISSION.write : 0),
      shares: PERMISSIONS_ALL & ~PERMISSION.resize,
    });
    let bitmaps: DirtyBitmap[];
    try {
      const server = this.#running();
      if (Buffer.byteLength(exportName) > STRING_BYTES_MAX) {
        throw genericError(`export name '${exportName}' too long`);
      }
      if (Buffer.byteLength(description ?? '') > STRING_BYTES_MAX) {
        throw genericError(`description '${description}' too long`);
      }
      if (server.find(exportName) !== undefined) {
        throw genericError(`NBD server already has export named '${exportName}'`);
      }
      // Looked at before any is taken: the same one may be named twice.
      bitmaps = request.bitmaps.map(reference => this.#findBitmap(node, reference, { writable }));
      server.addExport(
        new BlockExport({
          name: exportName,
          description,
          listed: true,
          node: attachment,
          readOnly: !writable,
          writeThrough: request.writeThrough,
          allocationDepth: request.allocationDepth,
          extraContexts: () => bitmaps.map(bitmap => dirtyBitmapContext(bitmap.name!, () => bitmap.bits)),
        }),
      );
    } catch (error) {
      void attachment.close();
      throw error;
    }
    for (const bitmap of bitmaps) bitmap.setBusy(true);
    this.#exports.set(id, { request, attachment, bitmaps });
  }

  /** Resolves once the export has gone. Throws, with nothing changed, in mode `safe` while clients use it. */
  async remove(id: string, mode: ExportRemoval): Promise<void> {
    const active = this.#exports.get(id);
    if (active === undefined) throw genericError(`Export '${id}' is not found`);
    // Whoever began it tells when it has gone.
    if (active.removal === undefined) await this.#remove(active, mode);
  }

  async #remove(active: ActiveExport, mode: ExportRemoval): Promise<void> {
    active.removal ??= this.#letGo(active, mode);
    try {
      await active.removal;
    } catch (error) {
      delete active.removal;
      if (error instanceof NbdServerError && error.kind === 'busy') {
        throw genericError(`export '${active.request.id}' still in use`);
      }
      throw error;
    }
  }

  async #letGo({ request, attachment, bitmaps }: ActiveExport, mode: ExportRemoval): Promise<void> {
    await this.#server?.removeExport(request.exportName, { mode });
    await attachment.close();
    for (const bitmap of bitmaps) bitmap.setBusy(false);
    this.#exports.delete(request.id);
    this.#deleted(request.id);
  }

  #running(): NbdServer {
    if (this.#server === undefined || this.#stopping !== undefined) {
      throw genericError('NBD server not running');
    }
    return this.#server;
  }

  #findBitmap(
    node: GraphNode,
    reference: ExportRequest['bitmaps'][number],
    { writable }: { writable: boolean },
  ): DirtyBitmap {
    const bitmap =
      typeof reference === 'string'
        ? findBelow(node, reference)
        : this.#bitmapOf(reference.node, reference.name);
    // A client that only reads would see it change under its eyes, were there somebody who writes.
    if (bitmap.recording && !writable && !node.readOnly) {
      throw genericError(`Enabled bitmap '${bitmap.name}' incompatible with readonly export`);
    }
    bitmap.assertUsable({ readOnly: true });
    return bitmap;
  }

  #bitmapOf(nodeName: string, name: string): DirtyBitmap {
    const node = this.#graph.find(nodeName);
    if (node === undefined) throw genericError(`Node '${nodeName}' not found`);
    const bitmap = node.bitmaps.find(name);
    if (bitmap === undefined) throw genericError(`Dirty bitmap '${name}' not found`);
    return bitmap;
  }
}

/** Rejects with what was wrong with the last of them. */
async function listenOnFirst(server: NbdServer, candidates: readonly NbdListenOptions[]): Promise<void> {
  for (const [index, candidate] of candidates.entries()) {
    try {
      await server.listen(candidate);
      return;
    } catch (error) {
      const isTaken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
      if (!isTaken || index === candidates.length - 1) throw error;
    }
  }
}

/** Drivers that show their child's contents as they are. */
const FILTERS = new Set(['blkdebug', 'compress', 'copy-before-write', 'throttle']);

/** Looks on the block node itself, then down through filters and backing images. */
function findBelow(node: GraphNode, name: string): DirtyBitmap {
  for (let at: GraphNode | undefined = node; at !== undefined; at = nextBelow(at)) {
    const bitmap = at.bitmaps.find(name);
    if (bitmap !== undefined) return bitmap;
  }
  throw genericError(`Bitmap '${name}' is not found`);
}

function nextBelow(node: GraphNode): GraphNode | undefined {
  const backing = node.children.find(edge => edge.role === 'backing');
  if (backing !== undefined) return backing.node;
  return FILTERS.has(node.driver) ? node.children.find(edge => edge.role === 'file')?.node : undefined;
}
