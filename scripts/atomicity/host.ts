// A host of the network: its storage node as a process, which is started again whenever it has died.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { connectStorageNode, type StorageNodeClients, type Volume } from '@tidemark/proto';
import { nodeEnvironment } from '../process/node-process.mjs';
import { rootFolder } from '../setup/find-node.mjs';
import { RETRY_MS, SETTLE_MS } from './limits.ts';
import type { Link } from './network.ts';

const FOLLOW_PARENT = join(rootFolder, 'scripts', 'process', 'follow-parent.mjs');
const PROGRAM = join(rootFolder, 'apps', 'storage-node', 'src', 'main.ts');
const UNFENCED = join(rootFolder, 'scripts', 'atomicity', 'unfenced', 'main.ts');

export interface HostOptions {
  readonly name: string;
  readonly stateDir: string;
  /** Where points are armed at which it dies. */
  readonly killPoints: string;
  readonly fleetSecret: string;
  /** Undefined: on the machine itself. */
  readonly link?: Link;
  readonly address: string;
  readonly fenced: boolean;
}

export class Host {
  readonly clients: StorageNodeClients;
  readonly #options: HostOptions;
  #child: ChildProcess | undefined;
  #stopping = false;
  #isCut = false;
  #volume: Volume | undefined;
  /** How often it has died. */
  deaths = 0;

  private constructor(options: HostOptions) {
    this.#options = options;
    const { name, address, fleetSecret } = options;
    this.clients = connectStorageNode({ name, address: `${address}:7411`, fleetSecret });
  }

  static async start(options: HostOptions): Promise<Host> {
    const host = new Host(options);
    await host.#launch();
    return host;
  }

  get name(): string {
    return this.#options.name;
  }

  get controlAddress(): string {
    return `${this.#options.address}:7411`;
  }

  get volume(): Volume {
    if (this.#volume === undefined) throw new Error(`${this.name} has no volume yet`);
    return this.#volume;
  }

  set volume(volume: Volume) {
    this.#volume = volume;
  }

  path(...names: string[]): string {
    return join(this.#options.stateDir, ...names);
  }

  kill(): void {
    this.#child?.kill('SIGKILL');
  }

  /** It dies when it passes the point the next time. */
  arm(point: string): void {
    writeFileSync(join(this.#options.killPoints, `${this.name}.armed`), `${point} 1`);
  }

  disarm(): void {
    writeFileSync(join(this.#options.killPoints, `${this.name}.armed`), '');
  }

  cut(): void {
    this.#isCut = true;
    this.#options.link?.cut();
  }

  /** Good to repeat. */
  heal(): void {
    if (this.#isCut) this.#options.link?.heal();
    this.#isCut = false;
  }

  /** Resolves when it answers. */
  async isBack(): Promise<void> {
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      const found = await this.clients.groups.listGroups({}, { timeoutMs: 1_000 }).catch(() => undefined);
      if (found !== undefined) return;
      if (performance.now() > deadline) throw new Error(`${this.name} does not answer`);
      await delay(RETRY_MS);
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.clients.close();
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  async #launch(): Promise<void> {
    const { name, stateDir, killPoints, fleetSecret, link, address, fenced } = this.#options;
    const program = [process.execPath, '--import', FOLLOW_PARENT, fenced ? PROGRAM : UNFENCED];
    const inside = link === undefined ? [] : ['ip', 'netns', 'exec', link.namespace];
    const [file, ...args] = [...inside, ...program];
    const child = spawn(file!, args, {
      env: nodeEnvironment({
        PATH: process.env.PATH,
        TIDEMARK_NODE_NAME: name,
        TIDEMARK_STATE_DIR: stateDir,
        TIDEMARK_KILL_POINTS: killPoints,
        TIDEMARK_FLEET_SECRET: fleetSecret,
        TIDEMARK_CONTROL_LISTEN: `${address}:7411`,
        TIDEMARK_NBD_LISTEN: `${address}:10809`,
      }),
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    });
    this.#child = child;
    child.once('exit', () => void this.#again());
    for await (const line of createInterface({ input: child.stdout! })) {
      if (!line.includes('"listening"')) continue;
      child.stdout!.resume();
      return;
    }
    if (!this.#stopping && this.deaths === 0)
      throw new Error(`storage node ${name} ended before it listened`);
  }

  async #again(): Promise<void> {
    if (this.#stopping) return;
    this.deaths++;
    await delay(RETRY_MS);
    if (!this.#stopping) await this.#launch();
  }
}
