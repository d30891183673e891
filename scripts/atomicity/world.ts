// The hosts of one installation, each with a volume and guests that write to all of them in causal order; and a vault
// on the machine itself, where what groups froze is copied to be looked at.
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { checkGroup, newStep, type Vault, type Verdict } from './checks.ts';
import { Coordinator, type Taken } from './coordinator.ts';
import { Host } from './host.ts';
import { CHAINS, HOSTS, VOLUME_BYTES } from './limits.ts';
import { Network } from './network.ts';
import type { Plan, Trouble } from './plan.ts';
import { Writers } from './writers.ts';

export interface Played extends Verdict {
  readonly plan: Plan;
  readonly taken: Taken;
  /** By the guests' own clock, of writes that nothing but the group can have held up. */
  readonly longestWaitMs: number;
  readonly deaths: number;
}

export class World {
  readonly writers: Writers;
  readonly #network: Network;
  readonly #hosts: readonly Host[];
  readonly #vault: Vault;
  /** When hosts were cut off or dead, by the guests' clock. */
  readonly #disturbed: { fromMs: number; untilMs: number }[] = [];

  private constructor(parts: { network: Network; hosts: readonly Host[]; vault: Vault }) {
    this.#network = parts.network;
    this.#hosts = parts.hosts;
    this.#vault = parts.vault;
    this.writers = new Writers(this.#hosts, CHAINS);
  }

  /** `fenced` false: the negative control. */
  static async create(folder: string, { fenced }: { fenced: boolean }): Promise<World> {
    const network = Network.create();
    const killPoints = join(folder, 'points');
    mkdirSync(killPoints, { recursive: true });
    const fleetSecret = randomUUID() + randomUUID();
    const started: Host[] = [];
    const start = async (name: string, place: Pick<Parameters<typeof Host.start>[0], 'link' | 'address'>) => {
      const options = { name, stateDir: join(folder, name), killPoints, fleetSecret, fenced };
      const host = await Host.start({ ...options, ...place });
      started.push(host);
      return host;
    };
    try {
      const hosts: Host[] = [];
      for (let index = 0; index < HOSTS; index++) {
        const link = network.addHost(index);
        const host = await start(`host${index + 1}`, { link, address: link.address });
        hosts.push(host);
        host.volume = await host.clients.volumes.createVolume({
          ...{ step: newStep(), volumeId: randomUUID(), name: `disk-${host.name}` },
          ...{ sizeBytes: VOLUME_BYTES, format: 'raw' },
        });
      }
      const vault = await start('vault', { address: network.address });
      const repositoryId = randomUUID();
      await vault.clients.repositories.createRepository({ step: newStep(), repositoryId, name: 'vault' });
      return new World({ network, hosts, vault: { host: vault, repositoryId } });
    } catch (error) {
      for (const host of started) await host.stop();
      network.remove();
      throw error;
    }
  }

  async play(plan: Plan): Promise<Played> {
    const rounds = this.writers.rounds;
    const deaths = this.#deaths();
    const cause = (trouble: Trouble) => this.#cause(trouble);
    const taken = await new Coordinator({ hosts: this.#hosts, plan, cause }).take();
    for (const host of this.#hosts) host.disarm();
    for (const host of this.#hosts) await host.isBack();
    const verdict = await checkGroup(this.#hosts, this.#vault, taken);
    const fault = await this.#writersGoOn(rounds);
    const longestWaitMs = this.writers.longestWaitMs(this.#disturbed);
    const faults = fault === undefined ? verdict.faults : [...verdict.faults, fault];
    return { ...verdict, faults, plan, taken, longestWaitMs, deaths: this.#deaths() - deaths };
  }

  /** Leaves nothing behind. */
  async close(): Promise<void> {
    for (const host of this.#hosts) host.heal();
    await this.writers.stop().catch(() => undefined);
    for (const host of [...this.#hosts, this.#vault.host]) await host.stop();
    this.#network.remove();
  }

  #deaths(): number {
    return this.#hosts.reduce((sum, { deaths }) => sum + deaths, 0);
  }

  /** Resolves when it is over; of a point at which nobody comes by: at once. */
  async #cause(trouble: Trouble): Promise<void> {
    const host = this.#hosts[trouble.host]!;
    const disturbance = { fromMs: performance.now(), untilMs: Infinity };
    this.#disturbed.push(disturbance);
    if (trouble.kind === 'cut') {
      host.cut();
      await delay(trouble.forMs);
      host.heal();
    } else if (trouble.kind === 'kill') host.kill();
    else return host.arm(trouble.point);
    await host.isBack();
    disturbance.untilMs = performance.now();
  }

  async #writersGoOn(since: number): Promise<string | undefined> {
    const deadline = performance.now() + GO_ON_MS;
    while (this.writers.rounds === since) {
      if (performance.now() > deadline) return 'guests do not go on';
      await delay(5);
    }
    for (const disturbance of this.#disturbed) {
      disturbance.untilMs = Math.min(disturbance.untilMs, performance.now());
    }
    return undefined;
  }
}

const GO_ON_MS = 30_000;
