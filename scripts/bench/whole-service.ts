// The whole system on this machine, driven over REST as an operator does, for figures of backups from request to
// result: services, PostgreSQL and queue included.

import { randomFillSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NbdClient } from '@tidemark/nbd';
import { RestClient, type Run } from '../demo/rest-client.ts';
import { Stack } from '../stack/stack.ts';
import { timed } from './load.ts';

const CHUNK_BYTES = 1024 ** 2;
/** Requests in flight while a disk is filled. */
const WRITES_IN_FLIGHT = 8;
const CLUSTER_BYTES = 64 * 1024;

export interface Volume {
  readonly name: string;
  readonly uri: string;
  readonly sizeBytes: number;
}

/** Default: of this checkout, with the queue in its PostgreSQL. */
export interface ServiceChoice {
  readonly checkout?: string | undefined;
  readonly queueUrl?: string | undefined;
}

export class WholeService {
  readonly rest: RestClient;
  readonly #stack: Stack;
  readonly #home: string;
  #checkpoints = 0;

  private constructor(stack: Stack, home: string, signal: AbortSignal) {
    this.#stack = stack;
    this.#home = home;
    this.rest = new RestClient(stack.url, signal);
  }

  static async start(signal: AbortSignal, choice: ServiceChoice = {}): Promise<WholeService> {
    const { checkout, queueUrl } = choice;
    const home = await mkdtemp(join(tmpdir(), 'tidemark-bench-'));
    const stack = new Stack({
      ...{ home, ports: 'free' },
      ...(checkout !== undefined && { checkout }),
      ...(queueUrl !== undefined && { queueUrl }),
    });
    await stack.start();
    return new WholeService(stack, home, signal);
  }

  /** Folder of its state and logs. */
  get home(): string {
    return this.#home;
  }

  get databaseUrl(): string {
    return this.#stack.databaseUrl;
  }

  /** Process ids of the services by name. */
  get processes(): ReadonlyMap<string, number | null> {
    return new Map([...this.#stack.services].map(([name, { pid }]) => [name, pid]));
  }

  async stop(): Promise<void> {
    await this.#stack.stop();
    await rm(this.#home, { recursive: true, force: true });
  }

  async volume(name: string, sizeBytes: number, storageNode = 'alpha'): Promise<Volume> {
    const body = { name, storageNode, sizeBytes };
    const { volume } = await this.rest.post<{ run: Run; volume: { exportUri: string } }>(
      '/v1/volumes',
      body,
      'done',
    );
    return { name, uri: volume.exportUri, sizeBytes };
  }

  async repository(name: string): Promise<void> {
    await this.rest.post('/v1/repositories', { name, storageNode: 'beta' }, 'done');
  }

  /** Seconds from the request to the stored backup, and the run. */
  async backUp(
    volume: Volume,
    repository: string,
    kind: 'full' | 'incremental',
  ): Promise<{ seconds: number; run: Run; checkpoint: string }> {
    this.#checkpoints += 1;
    const checkpoint = `checkpoint-${this.#checkpoints}`;
    const body = { volume: volume.name, repository, kind, checkpoint };
    let run: Run | undefined;
    const seconds = await timed(async () => {
      run = (await this.rest.post<{ run: Run }>('/v1/backups', body, 'done')).run;
    });
    return { seconds, run: run!, checkpoint };
  }
}

/** Data that does not compress in the range; durable afterwards. */
export async function fill({ uri }: Volume, offset: number, length: number): Promise<void> {
  const guest = await NbdClient.connect({ uri }, { requestsMax: WRITES_IN_FLIGHT });
  try {
    let at = offset;
    const writer = async (): Promise<void> => {
      const chunk = randomFillSync(Buffer.alloc(CHUNK_BYTES));
      for (let mine = at; mine < offset + length; mine = at) {
        at += CHUNK_BYTES;
        for (let place = 0; place < CHUNK_BYTES; place += CLUSTER_BYTES)
          chunk.writeDoubleBE(mine + place, place);
        await guest.write(mine, chunk.subarray(0, Math.min(CHUNK_BYTES, offset + length - mine)));
      }
    };
    await Promise.all(Array.from({ length: WRITES_IN_FLIGHT }, writer));
    await guest.flush();
  } finally {
    await guest.disconnect();
  }
}

/** One cluster of 64 KiB in every so many, evenly over the disk, `share` of it; durable afterwards. */
export async function scatter({ uri, sizeBytes }: Volume, share: number): Promise<void> {
  const guest = await NbdClient.connect({ uri }, { requestsMax: WRITES_IN_FLIGHT });
  try {
    const count = Math.round((sizeBytes * share) / CLUSTER_BYTES);
    const distance = sizeBytes / Math.max(count, 1);
    let next = 0;
    const writer = async (): Promise<void> => {
      const cluster = randomFillSync(Buffer.alloc(CLUSTER_BYTES));
      for (let mine = next; mine < count; mine = next) {
        next += 1;
        const offset = Math.floor((mine * distance) / CLUSTER_BYTES) * CLUSTER_BYTES;
        cluster.writeDoubleBE(offset + Math.random());
        await guest.write(offset, cluster);
      }
    };
    await Promise.all(Array.from({ length: WRITES_IN_FLIGHT }, writer));
    await guest.flush();
  } finally {
    await guest.disconnect();
  }
}
