// Where the data of one backup goes: an export of a repository on another storage node, as a block node.
import { type BlockGraph, type BlockNode, type Clock, GiB } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { openBackupDisk } from '../exports/backup-disk.ts';
import { nbdPlace } from '../exports/nbd-place.ts';
import { ChecksummingNode } from '../sums/checksumming-node.ts';
import { sumsBytes } from '../sums/sums-format.ts';
import type { RunOfRecords } from '../sums/sums-writer.ts';

export interface TargetOptions {
  readonly graph: BlockGraph;
  readonly clock: Clock;
  /** For the block node. */
  readonly name: string;
  readonly targetUri: string;
  /** Where checksums of what is copied go; empty: nowhere. */
  readonly sumsUri: string;
  readonly sizeBytes: number;
  /** How long requests wait for a connection that was lost; 0: they fail at once. */
  readonly reconnectMs: number;
}

export class BackupTarget {
  readonly name: string;
  readonly #graph: BlockGraph;
  readonly #data: BlockNode;
  readonly #sums: ChecksummingNode | undefined;

  private constructor(
    { graph, name }: TargetOptions,
    nodes: { data: BlockNode; sums: ChecksummingNode | undefined },
  ) {
    this.#graph = graph;
    this.name = name;
    this.#data = nodes.data;
    this.#sums = nodes.sums;
  }

  /** Rejects with `invalid-request` for a target of another size, or with what the connecting says. */
  static async open(options: TargetOptions): Promise<BackupTarget> {
    const { graph, name, targetUri, sumsUri, sizeBytes } = options;
    const opened: BlockNode[] = [];
    try {
      opened.push(await connect(targetUri, sizeBytes, options));
      if (sumsUri !== '') opened.push(await connect(sumsUri, sumsBytes(sizeBytes), options));
      const [target, sums] = opened;
      const summing = sums && new ChecksummingNode(target!, sums);
      graph.add({ name }, () => summing ?? target!);
      return new BackupTarget(options, { data: target!, sums: summing });
    } catch (error) {
      for (const node of opened) await node.close();
      throw error;
    }
  }

  /**
   * Whether zeroes need not be sent. A request that is repeated after a kill may find what an attempt has written whose
   * point in time is gone.
   */
  async readsAsZeroes(): Promise<boolean> {
    const { sizeBytes } = this.#data;
    for (let at = 0; at < sizeBytes; ) {
      const extents = await this.#data.extents(at, Math.min(GiB, sizeBytes - at));
      if (extents.length === 0 || extents.some(({ zero }) => !zero)) return false;
      const last = extents.at(-1)!;
      at = last.offset + last.length;
    }
    return true;
  }

  /** Of a copy that failed, with nothing under way: checksums of what is there that are not. */
  unwrittenSums(): RunOfRecords[] {
    return this.#sums?.unwrittenSums() ?? [];
  }

  /** What an earlier copy to the same place left unwritten. */
  async takeOver(unwritten: readonly RunOfRecords[]): Promise<void> {
    await this.#sums?.takeOver(unwritten);
  }

  /** A connection that is gone already is no failure: the job flushed the target before it succeeded. */
  async close(): Promise<void> {
    if (!this.#graph.has(this.name)) return;
    await this.#graph.remove(this.name).catch(() => undefined);
  }
}

async function connect(uri: string, sizeBytes: number, options: TargetOptions): Promise<BlockNode> {
  const { clock, reconnectMs } = options;
  const disk = await openBackupDisk(uri, { readOnly: false, clock, reconnectMs });
  if (disk.sizeBytes === sizeBytes) return disk;
  await disk.close();
  throw wrongSize(uri, disk.sizeBytes, sizeBytes);
}

function wrongSize(uri: string, found: number, wanted: number): TidemarkError {
  const text =
    `The target in the repository at ${nbdPlace(uri)} has ${found} bytes instead of ${wanted}: ` +
    "prepare one for the volume's size.";
  return new TidemarkError('invalid-request', text);
}
