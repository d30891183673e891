// A storage node on free ports with a state directory of its own, and its gRPC clients.
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { connectStorageNode, type StepContext, type StorageNodeClients } from '@tidemark/proto';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import { parseConfig } from '../config.ts';
import { StorageNode, type StorageNodeOptions } from '../storage-node.ts';
import { temporaryFolder } from './temporary-folder.ts';

/** What helpers need of a storage node, whether it runs in this process or in one of its own. */
export type ReachedStorageNode = Pick<RunningStorageNode, 'clients'>;

/** As the environment has them. */
type Settings = Readonly<Record<string, string>>;

/** What no setting can ask for. */
type ForTests = Pick<StorageNodeOptions, 'fencesOff' | 'pass'>;

export class RunningStorageNode {
  readonly stateDir: string;
  readonly #settings: Settings;
  readonly #forTests: ForTests;
  #storageNode: StorageNode | undefined;
  #clients: StorageNodeClients | undefined;

  private constructor(stateDir: string, settings: Settings, forTests: ForTests) {
    this.stateDir = stateDir;
    this.#settings = settings;
    this.#forTests = forTests;
  }

  /** On the given state directory, or one of its own. */
  static async start(
    stateDir?: string,
    settings: Settings = {},
    forTests: ForTests = {},
  ): Promise<RunningStorageNode> {
    const running = new RunningStorageNode(stateDir ?? (await temporaryFolder()), settings, forTests);
    onTestFinished(() => running.stop());
    await running.begin();
    return running;
  }

  get clients(): StorageNodeClients {
    if (this.#clients === undefined) throw new Error('the storage node is stopped');
    return this.#clients;
  }

  /** Where it serves QMP clients. */
  get qmpPath(): string {
    return this.path('qmp.sock');
  }

  async begin(): Promise<void> {
    const config = parseConfig({
      TIDEMARK_NODE_NAME: 'alpha',
      TIDEMARK_STATE_DIR: this.stateDir,
      TIDEMARK_CONTROL_LISTEN: '127.0.0.1:0',
      TIDEMARK_NBD_LISTEN: '127.0.0.1:0',
      TIDEMARK_QMP_LISTEN: this.qmpPath,
      ...this.#settings,
    });
    const log = pino({ level: 'silent' });
    const options = { config, log, now: () => Date.now(), version: '0.0.0', ...this.#forTests };
    this.#storageNode = new StorageNode(options);
    await this.#storageNode.start();
    this.#clients = connectStorageNode({ name: 'alpha', address: this.#storageNode.controlAddress ?? '' });
  }

  async stop(): Promise<void> {
    this.#clients?.close();
    this.#clients = undefined;
    await this.#storageNode?.close();
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.begin();
  }

  path(...names: string[]): string {
    return join(this.stateDir, ...names);
  }
}

/** A step of a run; each call without a run id is a run of its own. */
export function newStep(options: Partial<StepContext> = {}): StepContext {
  return { runId: randomUUID(), step: 'step', leaseEpoch: 1, ...options };
}
