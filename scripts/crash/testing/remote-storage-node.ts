// A storage node on a network of its own, which can be cut off: its packets are dropped in silence, as by a switch
// that has lost its power. Needs root.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { rootFolder } from '../../setup/find-node.mjs';

const PROGRAM = join(rootFolder, 'apps', 'storage-node', 'src', 'main.ts');
const FOLLOW_PARENT = join(rootFolder, 'scripts', 'process', 'follow-parent.mjs');

/** Undefined where a network can be made; otherwise why not. */
export function whyNoNetwork(): string | undefined {
  const name = `tm-probe-${randomInt(1e6)}`;
  if (spawnSync('ip', ['netns', 'add', name]).status !== 0) return 'network namespaces cannot be made here';
  spawnSync('ip', ['netns', 'delete', name]);
  return undefined;
}

interface RemoteOptions {
  name: string;
  stateDir: string;
  /** That of the stack it is to belong to. */
  fleetSecret: string;
}

export class RemoteStorageNode {
  readonly name: string;
  readonly stateDir: string;
  readonly controlAddress: string;
  readonly #fleetSecret: string;
  readonly #namespace: string;
  readonly #here: string;
  #child: ChildProcess | undefined;

  private constructor(options: RemoteOptions & { namespace: string; network: string }) {
    this.#fleetSecret = options.fleetSecret;
    this.name = options.name;
    this.stateDir = options.stateDir;
    this.#namespace = options.namespace;
    this.#here = `${options.network}.1`;
    this.controlAddress = `${options.network}.2:7411`;
  }

  static async start(options: RemoteOptions): Promise<RemoteStorageNode> {
    const id = randomInt(1, 255);
    const namespace = `tm-${process.pid}-${id}`;
    // Tests in other processes choose as well.
    const network = `10.${randomInt(200, 250)}.${id}`;
    const node = new RemoteStorageNode({ ...options, namespace, network });
    const [outer, inner] = [`tmo${process.pid % 10_000}-${id}`, `tmi${process.pid % 10_000}-${id}`];
    try {
      ip('netns', 'add', namespace);
      ip('link', 'add', outer, 'type', 'veth', 'peer', 'name', inner);
      ip('link', 'set', inner, 'netns', namespace);
      ip('addr', 'add', `${network}.1/30`, 'dev', outer);
      ip('link', 'set', outer, 'up');
      ip('-n', namespace, 'addr', 'add', `${network}.2/30`, 'dev', inner);
      ip('-n', namespace, 'link', 'set', inner, 'up');
      ip('-n', namespace, 'link', 'set', 'lo', 'up');
      await node.#launch(`${network}.2`);
    } catch (error) {
      await node.stop();
      throw error;
    }
    return node;
  }

  /** From here on nothing that it sends arrives. */
  cut(): void {
    ip('-n', this.#namespace, 'route', 'replace', 'blackhole', `${this.#here}/32`);
  }

  heal(): void {
    ip('-n', this.#namespace, 'route', 'delete', 'blackhole', `${this.#here}/32`);
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    spawnSync('ip', ['netns', 'delete', this.#namespace]);
  }

  async #launch(address: string): Promise<void> {
    const command = [process.execPath, '--import', FOLLOW_PARENT, PROGRAM];
    const child = spawn('ip', ['netns', 'exec', this.#namespace, ...command], {
      env: {
        PATH: process.env.PATH,
        TIDEMARK_NODE_NAME: this.name,
        TIDEMARK_STATE_DIR: this.stateDir,
        TIDEMARK_FLEET_SECRET: this.#fleetSecret,
        TIDEMARK_CONTROL_LISTEN: this.controlAddress,
        TIDEMARK_NBD_LISTEN: `${address}:10809`,
      },
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    });
    this.#child = child;
    for await (const line of createInterface({ input: child.stdout! })) {
      if (!line.includes('"listening"')) continue;
      child.stdout!.resume();
      return;
    }
    throw new Error(`storage node ${this.name} ended before it listened`);
  }
}

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
}
