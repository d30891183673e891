// Groups that the suite takes itself, so that it can wait, cut and kill between any two steps.
import { violations } from '../../apps/storage-node/src/testing/causal-writers.ts';
import { contentsOf, forget, hasMoment, leftOn, type Vault, waitFaults } from './checks.ts';
import { Coordinator } from './coordinator.ts';
import type { GroupWay, Taken, Verdict } from './group-way.ts';
import type { Host } from './host.ts';
import { CHAINS } from './limits.ts';
import type { Plan, Trouble } from './plan.ts';

export class GrpcWay implements GroupWay {
  readonly #hosts: readonly Host[];
  readonly #vault: Vault;
  #last: (Taken & { checkpointIds: readonly string[] }) | undefined;

  constructor(options: { hosts: readonly Host[]; vault: Vault }) {
    this.#hosts = options.hosts;
    this.#vault = options.vault;
  }

  async take(plan: Plan, cause: (trouble: Trouble) => Promise<void>): Promise<Taken> {
    this.#last = await new Coordinator({ hosts: this.#hosts, plan, cause }).take();
    return this.#last;
  }

  /** Afterwards nothing of the group is on the hosts. */
  async check(): Promise<Verdict> {
    const { checkpointIds, kept } = this.#last!;
    const faults = waitFaults(this.#last!);
    for (const [index, host] of this.#hosts.entries()) {
      const left = await leftOn(host, kept ? [checkpointIds[index]!] : []);
      faults.push(...left.map(fault => `${host.name}: ${fault}`));
    }
    if (!kept) return { faults, restored: false };
    const each = <T>(look: (host: Host, checkpointId: string) => Promise<T>) =>
      Promise.all(this.#hosts.map((host, index) => look(host, checkpointIds[index]!)));
    const restored = (await each(hasMoment)).every(Boolean);
    if (restored) {
      const disks = await each((host, checkpointId) => contentsOf(host, this.#vault, checkpointId));
      faults.push(...violations(disks, CHAINS));
    }
    await each(forget);
    return { faults, restored };
  }

  async close(): Promise<void> {}
}
