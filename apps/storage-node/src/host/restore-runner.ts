// A restore as this storage node does it: copies a backup, read over NBD through its chain, to a new volume
// or to a plain file. What is not complete is never seen under its final name.
import { createRawFile, FileNode, type Job, RestoreJob } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { NbdDriver } from '../exports/nbd-driver.ts';
import { NBD_CONNECT_TIMEOUT_MS } from '../limits.ts';
import type { JobRunner } from './job-runner.ts';
import type { StateStore } from './state-store.ts';
import { Turns } from './turns.ts';
import type { VolumeHost } from './volume.ts';
import type { VolumeRegistry } from './volume-registry.ts';

const RESTORES_FOLDER = 'restores';
const FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const PARTIAL = '.partial-';

export interface RestoreRequest {
  /** Unique among restores; becomes the job's id. */
  restoreId: string;
  sourceUri: string;
  sizeBytes: number;
  speedBytesPerSecond: number;
  target: { kind: 'volume'; volumeId: string; name: string; format: string } | { kind: 'file'; name: string };
}

/** What a kind of target does with the outcome. */
interface RestoreTarget {
  readonly node: string;
  complete(): Promise<void>;
  discard(): Promise<void>;
}

export class RestoreRunner {
  readonly #graph: VolumeHost['graph'];
  readonly #store: StateStore;
  readonly #volumes: VolumeRegistry;
  readonly #jobs: JobRunner;
  readonly #turns = new Turns();

  constructor(options: {
    graph: VolumeHost['graph'];
    store: StateStore;
    volumes: VolumeRegistry;
    jobs: JobRunner;
  }) {
    this.#graph = options.graph;
    this.#store = options.store;
    this.#volumes = options.volumes;
    this.#jobs = options.jobs;
  }

  /** Removes files that an earlier life of the process did not finish. */
  async load(): Promise<void> {
    for (const name of await this.#store.list(RESTORES_FOLDER)) {
      if (name.startsWith(PARTIAL)) await this.#store.remove(`${RESTORES_FOLDER}/${name}`);
    }
  }

  /**
   * Resolves with the job running; a repeated request is answered as before while its job is known. Rejects,
   * with nothing left behind, when it cannot start.
   */
  start(request: RestoreRequest): Promise<{ jobId: string; filePath: string }> {
    return this.#turns.take(request.restoreId, () => this.#startOnce(request));
  }

  async #startOnce(request: RestoreRequest): Promise<{ jobId: string; filePath: string }> {
    const jobId = `restore-${request.restoreId}`;
    const source = `source-${request.restoreId}`;
    const answer = { jobId, filePath: this.#filePath(request) };
    if (this.#jobs.find(jobId) !== undefined) return answer;
    await this.#addSource(source, request);
    let target: RestoreTarget | undefined;
    try {
      target = await this.#makeTarget(request);
      const job = this.#startJob(jobId, request, { source, target: target.node });
      this.#follow(job, source, target);
      return answer;
    } catch (error) {
      await target?.discard();
      await this.#graph.remove(source);
      throw error;
    }
  }

  #filePath({ target }: RestoreRequest): string {
    if (target.kind === 'volume') return '';
    checkFileName(target.name);
    return this.#store.path(`${RESTORES_FOLDER}/${target.name}`);
  }

  #startJob(id: string, request: RestoreRequest, nodes: { source: string; target: string }): RestoreJob {
    const job = new RestoreJob({
      id,
      clock: this.#jobs.clock,
      graph: this.#graph,
      sourceNode: nodes.source,
      targetNode: nodes.target,
      targetIsZero: true,
      speedBytesPerSecond: request.speedBytesPerSecond,
    });
    this.#jobs.registry.add(job);
    job.start();
    return job;
  }

  #follow(job: Job, source: string, target: RestoreTarget): void {
    this.#jobs.adopt(job, async succeeded => {
      await this.#graph.remove(source).catch(() => undefined);
      if (!succeeded) {
        await target.discard();
        return;
      }
      try {
        await target.complete();
      } catch (error) {
        await target.discard();
        throw error;
      }
    });
  }

  async #addSource(name: string, { sourceUri, sizeBytes }: RestoreRequest): Promise<void> {
    const signal = AbortSignal.timeout(NBD_CONNECT_TIMEOUT_MS);
    const driver = await NbdDriver.open(sourceUri, { readOnly: true, signal });
    if (driver.sizeBytes !== sizeBytes) {
      await driver.close();
      throw new TidemarkError(
        'invalid-request',
        `Backup export ${sourceUri} has ${driver.sizeBytes} bytes, not ${sizeBytes}. Ask for the backup's size.`,
      );
    }
    this.#graph.add({ name }, () => driver);
  }

  #makeTarget(request: RestoreRequest): Promise<RestoreTarget> {
    const { target, sizeBytes } = request;
    if (target.kind === 'file') return this.#makeFile(target.name, sizeBytes);
    return this.#makeVolume({ ...target, sizeBytes });
  }

  async #makeVolume(request: {
    volumeId: string;
    name: string;
    format: string;
    sizeBytes: number;
  }): Promise<RestoreTarget> {
    const { volumeId, name, format, sizeBytes } = request;
    const volume = await this.#volumes.create({ volumeId, name, format, sizeBytes, state: 'restoring' });
    return {
      node: volume.node.name,
      complete: () => volume.becomeReady(),
      discard: () => this.#volumes.delete(volumeId),
    };
  }

  async #makeFile(name: string, sizeBytes: number): Promise<RestoreTarget> {
    const final = `${RESTORES_FOLDER}/${name}`;
    const partial = `${RESTORES_FOLDER}/${PARTIAL}${name}`;
    const there = await this.#store.list(RESTORES_FOLDER);
    if (there.includes(name) || there.includes(`${PARTIAL}${name}`)) {
      throw new TidemarkError(
        'file-exists',
        `${this.#store.path(final)} exists already or is being written. Choose another name or remove it.`,
      );
    }
    await this.#store.makeFolder(RESTORES_FOLDER);
    await createRawFile(this.#store.path(partial), sizeBytes);
    const node = `file-${name}`;
    const file = await FileNode.open(this.#store.path(partial));
    this.#graph.add({ name: node }, () => file);
    return {
      node,
      complete: async () => {
        await this.#graph.remove(node);
        await this.#store.publishFile(partial, final);
      },
      discard: async () => {
        if (this.#graph.has(node)) await this.#graph.remove(node);
        await this.#store.remove(partial);
      },
    };
  }
}

function checkFileName(name: string): void {
  if (FILE_NAME.test(name)) return;
  throw new TidemarkError(
    'invalid-name',
    `'${name}' is not a file name: use letters, digits, dots, dashes and underscores, at most 128, no folder.`,
  );
}
