// A backup's exports as the host of a repository serves them, data and checksums, on an address that stays: it can go
// away and come back, and places of it can be damaged.
import { FaultyNode, MemoryNode } from '@tidemark/engine/testing';
import { NbdServer } from '@tidemark/nbd';
import { onTestFinished } from 'vitest';
import { BlockExport } from '../exports/block-export.ts';
import { CLUSTER_BYTES, clusterDigest, RECORD_BYTES, sumsBytes, ZEROES_RECORD } from '../sums/sums-format.ts';

const ZEROES = Buffer.alloc(CLUSTER_BYTES);

export class BackupServer {
  readonly #disk: FaultyNode;
  readonly #sums: MemoryNode;
  #server: NbdServer | undefined;
  #port = 0;
  /** Payload that was read of the data. */
  readBytes = 0;

  private constructor(disk: FaultyNode, sums: MemoryNode) {
    this.#disk = disk;
    this.#sums = sums;
  }

  /** Zero clusters are holes. */
  static async start(contents: Buffer): Promise<BackupServer> {
    const disk = new MemoryNode({ sizeBytes: contents.length });
    const sums = new MemoryNode({ sizeBytes: sumsBytes(contents.length) });
    for (let at = 0; at < contents.length; at += CLUSTER_BYTES) {
      const cluster = contents.subarray(at, at + CLUSTER_BYTES);
      const isZero = ZEROES.subarray(0, cluster.length).equals(cluster);
      if (!isZero) await disk.write(at, cluster);
      const record = isZero ? ZEROES_RECORD : clusterDigest(cluster);
      await sums.write((at / CLUSTER_BYTES) * RECORD_BYTES, record);
    }
    const made = new BackupServer(new FaultyNode(disk, { delay: () => made.#wait() }), sums);
    onTestFinished(() => made.stop());
    await made.start();
    return made;
  }

  /** Each request takes so long. */
  delayMs = 0;

  #wait(): Promise<void> | undefined {
    if (this.delayMs === 0) return undefined;
    return new Promise(resolve => setTimeout(resolve, this.delayMs));
  }

  async start(): Promise<void> {
    this.#server = new NbdServer({ toErrno: () => 'EIO' });
    const disk = this.#disk;
    const count = (offset: number, buffer: Buffer) => {
      this.readBytes += buffer.length;
      return disk.read(offset, buffer);
    };
    const node = new Proxy(disk, {
      get: (target, key) => (key === 'read' ? count : bound(target, key)),
    });
    this.#server.addExport(new BlockExport({ name: 'data', listed: false, node, readOnly: true }));
    this.#server.addExport(
      new BlockExport({ name: 'sums', listed: false, node: this.#sums, readOnly: true }),
    );
    const address = await this.#server.listen({ host: '127.0.0.1', port: this.#port });
    if ('port' in address) this.#port = address.port;
  }

  async stop(): Promise<void> {
    await this.#server?.close();
    this.#server = undefined;
  }

  get uri(): string {
    return `nbd://127.0.0.1:${this.#port}/data`;
  }

  get sumsUri(): string {
    return `nbd://127.0.0.1:${this.#port}/sums`;
  }

  /** Reads of these clusters fail from here on. */
  damage(...clusters: number[]): void {
    for (const cluster of clusters) {
      this.#disk.addRule({ event: 'read', offset: cluster * CLUSTER_BYTES, errno: 'EIO' });
    }
  }

  /** All can be read again. */
  repair(): void {
    this.#disk.clearRules();
  }
}

function bound(target: object, key: string | symbol): unknown {
  const value = Reflect.get(target, key, target) as unknown;
  return typeof value === 'function' ? value.bind(target) : value;
}
