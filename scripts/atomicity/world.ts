// The hosts of one installation, each with a volume and guests that write to all of them in causal order; and a vault
// on the machine itself, where what groups froze is copied to be looked at.
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { newStep } from './checks.ts';
import type { GroupWay, Taken, Verdict } from './group-way.ts';
import { GrpcWay } from './grpc-way.ts';
import { Host } from './host.ts';
import { CHAINS, HOSTS, SETTLE_MS, VOLUME_BYTES } from './limits.ts';
import { Network } from './network.ts';
import { hostOf, type Plan, type Trouble, type Way } from './plan.ts';
import { RestWay } from './rest-way.ts';
import { Writers } from './writers.ts';

export interface Played extends Verdict {
  readonly plan: Plan;
  readonly taken: Taken;
  /** By the guests' own clock, of writes that nothing but the group can have held up. */
  readonly longestWaitMs: number;
  readonly deaths: number;
}

interface WorldOptions {
  /** False: the negative control. */
  readonly fenced: boolean;
  readonly way: Way;
}

interface Parts {
  readonly network: Network;
  readonly hosts: readonly Host[];
  readonly vault: Host;
  readonly way: GroupWay;
  readonly product: RestWay | undefined;
}

export class World {
  readonly writers: Writers;
  readonly #parts: Parts;
  readonly #hosts: readonly Host[];
  /** When hosts were cut off or dead, by the guests' clock. */
  readonly #disturbed: { fromMs: number; untilMs: number }[] = [];

  private constructor(parts: Parts) {
    this.#parts = parts;
    this.#hosts = parts.hosts;
    this.writers = new Writers(parts.hosts, CHAINS);
  }

  static async create(folder: string, { fenced, way }: WorldOptions): Promise<World> {
    const killPoints = join(folder, 'points');
    mkdirSync(killPoints, { recursive: true });
    const undo: (() => Promise<void>)[] = [];
    try {
      const product = way === 'rest' ? await RestWay.start(join(folder, 'stack'), killPoints) : undefined;
      if (product) undo.push(() => product.close());
      const network = Network.create();
      undo.push(async () => network.remove());
      const fleetSecret = product?.fleetSecret ?? randomUUID() + randomUUID();
      const start = async (
        name: string,
        place: Pick<Parameters<typeof Host.start>[0], 'link' | 'address'>,
      ) => {
        const options = { name, stateDir: join(folder, name), killPoints, fleetSecret, fenced };
        const host = await Host.start({ ...options, ...place });
        undo.push(() => host.stop());
        return host;
      };
      const links = Array.from({ length: HOSTS }, (_, index) => network.addHost(index));
      const hosts: Host[] = [];
      for (const [index, link] of links.entries()) {
        hosts.push(await start(`host${index + 1}`, { link, address: link.address }));
      }
      const vault = await start('vault', { address: network.address });
      await product?.furnish(hosts, vault);
      return new World({ network, hosts, vault, product, way: product ?? (await furnish(hosts, vault)) });
    } catch (error) {
      for (const step of undo.reverse()) await step();
      throw error;
    }
  }

  async play(plan: Plan): Promise<Played> {
    const rounds = this.writers.rounds;
    const deaths = this.#deaths();
    const { way, product } = this.#parts;
    const taken = await way.take(plan, trouble => this.#cause(trouble));
    for (const host of this.#hosts) host.disarm();
    product?.armWorker('');
    for (const host of this.#hosts) await host.isBack();
    const verdict = await way.check();
    const fault = await this.#writersGoOn(rounds);
    const longestWaitMs = this.writers.longestWaitMs(this.#disturbed);
    const faults = fault === undefined ? verdict.faults : [...verdict.faults, fault];
    return { ...verdict, faults, plan, taken, longestWaitMs, deaths: this.#deaths() - deaths };
  }

  /** Leaves nothing behind. */
  async close(): Promise<void> {
    const { way, vault, network } = this.#parts;
    for (const host of this.#hosts) host.heal();
    await this.writers.stop().catch(() => undefined);
    await way.close();
    for (const host of [...this.#hosts, vault]) await host.stop();
    network.remove();
  }

  #deaths(): number {
    return this.#hosts.reduce((sum, { deaths }) => sum + deaths, 0);
  }

  /** Resolves when it is over; of a point at which nobody has come by yet: at once. */
  async #cause(trouble: Trouble): Promise<void> {
    const { product } = this.#parts;
    const index = hostOf(trouble);
    if (index === undefined) {
      if (trouble.kind === 'worker-point') product!.armWorker(trouble.point);
      else if (trouble.kind === 'kill-service') product!.kill(trouble.service);
      return;
    }
    const host = this.#hosts[index]!;
    const disturbance = { fromMs: performance.now(), untilMs: Infinity };
    this.#disturbed.push(disturbance);
    if (trouble.kind === 'kill-point') return host.arm(trouble.point);
    if (trouble.kind === 'cut') {
      host.cut();
      await delay(trouble.forMs);
      host.heal();
    } else host.kill();
    await host.isBack();
    disturbance.untilMs = performance.now();
  }

  /** What is over by then disturbs no later group. */
  async #writersGoOn(since: number): Promise<string | undefined> {
    const deadline = performance.now() + SETTLE_MS;
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

/** By hand, where no product does it. */
async function furnish(hosts: readonly Host[], vault: Host): Promise<GrpcWay> {
  for (const host of hosts) {
    host.volume = await host.clients.volumes.createVolume({
      ...{ step: newStep(), volumeId: randomUUID(), name: `disk-${host.name}` },
      ...{ sizeBytes: VOLUME_BYTES, format: 'raw' },
    });
  }
  const repositoryId = randomUUID();
  await vault.clients.repositories.createRepository({ step: newStep(), repositoryId, name: 'vault' });
  return new GrpcWay({ hosts, vault: { host: vault, repositoryId } });
}
