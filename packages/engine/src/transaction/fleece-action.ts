// The transaction action that freezes a moment for readers: filter, snapshot-access node and, with a bitmap,
// a frozen copy of it appear together at commit. Several disks in one transaction share one moment, which
// cannot be had of block nodes that are added one after the other (scenario FL-09).
import type { Bitmap } from '../bitmap/bitmap.ts';
import type { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import type { Clock } from '../clock.ts';
import { BlockCopy, copyClusterBytes } from '../copy/block-copy.ts';
import { validateMinClusterBytes } from '../copy/min-cluster-size.ts';
import { EngineError } from '../errors.ts';
import { CopyBeforeWrite, type OnCbwError } from '../filter/copy-before-write.ts';
import { SnapshotAccess, snapshotAccessPermissions } from '../filter/snapshot-access.ts';
import type { WaitHistogram } from '../filter/wait-histogram.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { copyBeforeWritePermissions } from '../graph/permissions.ts';
import type { StagedBitmaps } from './staged-bitmaps.ts';
import type { InstantAction, PreparedAction } from './transaction.ts';

export interface FleeceOptions {
  clock: Clock;
  /** Names of block nodes: the live disk, and the one that keeps what guests overwrite. */
  source: string;
  target: string;
  /** Names for the new ones. Default for the filter: one that nobody has. */
  snapshotNode: string;
  filterNode?: string | undefined;
  /**
   * A bitmap of the source. Only what it says can be read, and a frozen copy of it, of the same name, is found
   * on the snapshot-access node. It goes on recording as before.
   */
  bitmap?: string | undefined;
  onCbwError: OnCbwError;
  /** 0: a guest write waits for its copy as long as it takes. */
  cbwTimeoutMs: number;
  minClusterBytes?: number | undefined;
  /** Where is noted how long guest requests waited for their copies. */
  waits?: WaitHistogram | undefined;
  /** Told once, when the moment is lost. */
  onBroken?: ((reason: EngineError) => void) | undefined;
}

/** A frozen moment; it stays until `remove`. */
export class Fleece {
  readonly snapshotNode: GraphNode;
  readonly filterNode: GraphNode;
  readonly #graph: BlockGraph;
  readonly #driver: CopyBeforeWrite;

  /** By `startFleece` alone. */
  constructor(options: {
    graph: BlockGraph;
    snapshot: GraphNode;
    filter: GraphNode;
    driver: CopyBeforeWrite;
  }) {
    this.#graph = options.graph;
    this.snapshotNode = options.snapshot;
    this.filterNode = options.filter;
    this.#driver = options.driver;
  }

  /** Why the moment is lost; undefined while it is whole. */
  get broken(): EngineError | undefined {
    return this.#driver.broken;
  }

  /**
   * Takes filter and snapshot-access node away; guests go on undisturbed, and nothing is written to the target
   * any more. Throws kind `busy`, with nothing changed, while somebody uses the snapshot.
   */
  async remove(): Promise<void> {
    const [user] = this.snapshotNode.parents;
    if (user !== undefined || this.snapshotNode.bitmaps.all.some(bitmap => bitmap.busy)) {
      throw new EngineError('busy', `Node ${this.snapshotNode.name} is in use`, {
        node: this.snapshotNode.name,
        hint: `End ${user?.user ?? 'the export of its bitmap'} first.`,
      });
    }
    await this.#graph.remove(this.snapshotNode.name);
    await this.#driver.copy.stop();
    await this.#graph.drained([this.filterNode], () => {
      if (this.filterNode.inserted) this.#graph.bypass(this.filterNode);
    });
    await this.#graph.remove(this.filterNode.name, { withBitmaps: true });
  }
}

export interface FleeceAction extends InstantAction {
  /** Once the transaction has committed. */
  readonly fleece: Fleece | undefined;
}

export function startFleece(options: FleeceOptions): FleeceAction {
  let fleece: Fleece | undefined;
  return {
    kind: 'fleece',
    get fleece() {
      return fleece;
    },
    nodes: graph => (graph.has(options.source) ? [graph.get(options.source)] : []),
    prepare(graph, staged): PreparedAction {
      const made = makeNodes(graph, staged, options);
      return {
        commit: () => {
          made.begin();
          fleece = made.fleece;
        },
        abort: () => made.fleece.remove(),
      };
    },
  };
}

interface Made {
  readonly fleece: Fleece;
  /** Under drain: from here on the moment is frozen. */
  begin(): void;
}

function makeNodes(graph: BlockGraph, staged: StagedBitmaps, options: FleeceOptions): Made {
  const source = graph.get(options.source);
  const target = graph.get(options.target);
  const bitmap = options.bitmap === undefined ? undefined : staged.get(source, options.bitmap);
  bitmap?.assertUsable();
  validateMinClusterBytes(options.minClusterBytes);
  if (source === target) throw invalid('Source and target cannot be the same');
  source.assertNotBlocked();
  target.assertNotBlocked();
  if (source.sizeBytes !== target.sizeBytes) throw invalid('Source and target image have different sizes');
  if (target.readOnly) throw new EngineError('denied', 'Block node is read-only', { node: target.name });
  const parts: { driver?: CopyBeforeWrite; access?: Bitmap } = {};
  const filter = graph.add(
    {
      name: options.filterNode ?? graph.freeName(),
      children: { file: options.source, target: options.target },
      permissions: copyBeforeWritePermissions,
      owner: 'job',
    },
    children => {
      const ends = { source: children.file!, target: children.target! };
      const clusterBytes = copyClusterBytes(ends.target, { minClusterBytes: options.minClusterBytes });
      const copy = new BlockCopy({ ...ends, targetIsZero: false, clusterBytes });
      const access = copy.copyBitmap.clone();
      const driver = new CopyBeforeWrite({ ...options, ...ends, copy, access });
      Object.assign(parts, { driver, access });
      return driver;
    },
  );
  const driver = parts.driver!;
  driver.onBroken = () => options.onBroken?.(driver.broken!);
  try {
    // In its place already, so that guests write through it when the snapshot forbids them to write past it. Until
    // `begin` it lets everything pass.
    graph.insertAbove(source, filter);
    const snapshot = graph.add(
      {
        name: options.snapshotNode,
        children: { file: filter.name },
        permissions: snapshotAccessPermissions,
        owner: 'job',
      },
      ({ file }) => new SnapshotAccess(file!),
    );
    const fleece = new Fleece({ graph, snapshot, filter, driver });
    return { fleece, begin: () => begin({ fleece, driver, access: parts.access!, bitmap }) };
  } catch (error) {
    if (filter.inserted) graph.bypass(filter);
    void graph.remove(filter.name);
    throw error;
  }
}

function begin(made: {
  fleece: Fleece;
  driver: CopyBeforeWrite;
  access: Bitmap;
  bitmap: DirtyBitmap | undefined;
}): void {
  const { fleece, driver, access, bitmap } = made;
  const { copyBitmap } = driver.copy;
  if (bitmap === undefined) copyBitmap.setAll();
  else {
    copyBitmap.merge(bitmap.bits);
    const { granularityBytes } = bitmap.bits;
    const frozen = fleece.snapshotNode.bitmaps.create({
      name: bitmap.name!,
      granularityBytes,
      recording: false,
    });
    frozen.bits.merge(bitmap.bits);
    fleece.snapshotNode.bitmaps.insert(frozen);
  }
  access.merge(copyBitmap);
}

function invalid(text: string): EngineError {
  return new EngineError('invalid-argument', text);
}
