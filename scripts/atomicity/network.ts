// A network of hosts on this machine: one bridge, and a network namespace for each host, whose link can be cut: its
// packets are dropped in silence, as by a cable that is pulled. Needs root.
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';

/** Undefined where networks can be made; otherwise why not. */
export function whyNoNetwork(): string | undefined {
  const name = `tma-probe${randomInt(1e4)}`;
  const made = spawnSync('ip', ['link', 'add', name, 'type', 'bridge']);
  if (made.error !== undefined) return 'ip (iproute2) is not installed';
  if (made.status !== 0) return 'bridges and network namespaces cannot be made here';
  spawnSync('ip', ['link', 'delete', name]);
  return undefined;
}

export class Network {
  /** Of this machine on it. */
  readonly address: string;
  readonly #id = `${process.pid % 100_000}`;
  readonly #prefix = `10.252.${randomInt(1, 255)}`;
  readonly #bridge = `tma${this.#id}`;
  readonly #namespaces: string[] = [];

  private constructor() {
    this.address = `${this.#prefix}.254`;
  }

  static create(): Network {
    const network = new Network();
    ip('link', 'add', network.#bridge, 'type', 'bridge');
    ip('addr', 'add', `${network.address}/24`, 'dev', network.#bridge);
    ip('link', 'set', network.#bridge, 'up');
    return network;
  }

  /** A host with a link of its own; `index` from 0. */
  addHost(index: number): Link {
    const namespace = `tma-${this.#id}-${index}`;
    const [outer, inner] = [`tma${this.#id}o${index}`, `tma${this.#id}i${index}`];
    const address = `${this.#prefix}.${index + 1}`;
    this.#namespaces.push(namespace);
    ip('netns', 'add', namespace);
    ip('link', 'add', outer, 'type', 'veth', 'peer', 'name', inner);
    ip('link', 'set', inner, 'netns', namespace);
    ip('link', 'set', outer, 'master', this.#bridge);
    ip('link', 'set', outer, 'up');
    ip('-n', namespace, 'addr', 'add', `${address}/24`, 'dev', inner);
    ip('-n', namespace, 'link', 'set', inner, 'up');
    ip('-n', namespace, 'link', 'set', 'lo', 'up');
    return {
      namespace,
      address,
      cut: () => ip('link', 'set', outer, 'down'),
      heal: () => ip('link', 'set', outer, 'up'),
    };
  }

  /** Good to repeat. */
  remove(): void {
    for (const namespace of this.#namespaces.splice(0)) spawnSync('ip', ['netns', 'delete', namespace]);
    spawnSync('ip', ['link', 'delete', this.#bridge]);
  }
}

export interface Link {
  readonly namespace: string;
  readonly address: string;
  cut(): void;
  heal(): void;
}

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
}
