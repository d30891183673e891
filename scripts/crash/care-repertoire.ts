// What is asked about the storage node that has no guest's disk and no repository: it is cordoned, uncordoned and
// drained, also of volumes that are written to meanwhile.
import { setTimeout as delay } from 'node:timers/promises';
import type { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { CORDONS, DRAINS } from './checks/allowed-ends.ts';
import { CARE_AFTER_MS_MAX, SPARE_BYTES } from './limits.ts';
import type { Operation, Operations } from './operation.ts';
import type { RoundNames } from './round-names.ts';
import { SpareGuest } from './spare-guest.ts';
import { SPARE_NODE, type World } from './world.ts';

const UNCORDONS = 'uncordon';

export class CareRepertoire {
  readonly #world: World;
  readonly #random: SeededRandom;
  readonly #operations: Operations;
  readonly #name: RoundNames;

  constructor(world: World, random: SeededRandom, options: { operations: Operations; name: RoundNames }) {
    this.#world = world;
    this.#random = random;
    this.#operations = options.operations;
    this.#name = options.name;
  }

  async perform(): Promise<void> {
    const dice = this.#random.int(1, 10);
    if (dice > 6) return;
    const guests: SpareGuest[] = [];
    for (let count = this.#random.int(1, 2); count > 0; count -= 1) guests.push(...(await this.#makeSpare()));
    for (const guest of guests) guest.start();
    await delay(this.#random.int(0, CARE_AFTER_MS_MAX));
    if (dice <= 4) await this.#drain();
    else await this.#cordon(CORDONS);
    if (this.#random.chance(0.3)) await this.#cordon(UNCORDONS);
    await delay(this.#random.int(0, CARE_AFTER_MS_MAX));
    await Promise.all(guests.map(guest => guest.stop()));
  }

  /** With a guest of its own; none: it is not sure to be there. */
  async #makeSpare(): Promise<SpareGuest[]> {
    const name = this.#name('spare');
    const format = this.#random.pick(['raw', 'qcow2']);
    const body = { name, storageNode: SPARE_NODE, sizeBytes: SPARE_BYTES, format };
    const { end } = await this.#ask('new-volume', name, { path: 'volumes', body });
    if (end !== 'succeeded') return [];
    const find = async () => {
      const { status, body: volume } = await this.#world.rest.call('GET', `volumes/${name}`);
      return status === 200 ? (volume.exportUri ?? undefined) : undefined;
    };
    const guest = new SpareGuest(find, this.#random);
    this.#world.spares.set(name, guest);
    return [guest];
  }

  async #drain(): Promise<void> {
    const { rest } = this.#world;
    const { body } = await rest.call('GET', 'volumes');
    const volumes: { name: string; storageNode: string }[] = body.items ?? [];
    const there = volumes.filter(({ storageNode }) => storageNode === SPARE_NODE).map(({ name }) => name);
    const name = this.#name('drain');
    this.#world.drained.set(name, there);
    const path = `storage-nodes/${SPARE_NODE}/drain`;
    const { end, run } = await this.#ask(DRAINS, name, { path, body: {} });
    if (end === 'refused') return;
    this.#world.isCordoned = run === undefined ? undefined : true;
  }

  async #cordon(kind: string): Promise<void> {
    const path = `storage-nodes/${SPARE_NODE}/${kind}`;
    const { end } = await this.#ask(kind, SPARE_NODE, { path, body: {} });
    if (end === 'refused') return;
    this.#world.isCordoned = end === 'succeeded' ? kind === CORDONS : undefined;
  }

  #ask(kind: string, name: string, request: { path: string; body: object }): Promise<Operation> {
    return this.#operations.ask(kind, this.#world.disks[0]!, name, { method: 'POST', ...request });
  }
}
