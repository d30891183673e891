// What is asked of all disks together, whose storage nodes differ: groups, with backups or without, and policies that
// are fired.
import type { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { DELETES_BACKUPS } from './checks/allowed-ends.ts';
import { MAKES_GROUP } from './checks/group-check.ts';
import { DISK_SELECTOR } from './limits.ts';
import type { Operations } from './operation.ts';
import type { RoundNames } from './round-names.ts';
import type { World } from './world.ts';

export const FIRES_POLICY = 'fire-policy';
/** A busy machine may keep guests waiting: that is no fault here. */
const FENCE_LIMIT_MS = 10_000;
/** It fires when it is told to, and not before next year. */
const SCHEDULE = { cron: '0 3 1 1 *', timeZone: 'UTC', missed: 'skip' };

export class FleetRepertoire {
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
    if (this.#random.chance(0.4)) await this.#deleteGroup();
    const dice = this.#random.int(1, 10);
    if (dice <= 3) await this.#createGroup();
    else if (dice <= 5) await this.#backUpGroup();
    else if (dice <= 7) await this.#firePolicy();
  }

  async #createGroup(): Promise<void> {
    const name = this.#name('group');
    await this.#makeGroup(MAKES_GROUP, name, {});
  }

  /** All into one repository: of one member it is the place of its other backups, of the rest another one. */
  async #backUpGroup(): Promise<void> {
    const name = this.#name('together');
    const { repository } = this.#random.pick(this.#world.disks);
    const completion = this.#random.pick(['grouped', 'grouped', 'individual']);
    await this.#makeGroup(`${MAKES_GROUP}-backup`, name, { backup: { repository }, completion });
  }

  async #makeGroup(kind: string, name: string, how: object): Promise<void> {
    const { disks } = this.#world;
    const volumes = disks.map(disk => disk.name);
    const body = { name, volumes, fenceLimitMs: FENCE_LIMIT_MS, ...how };
    const request = { method: 'POST', path: 'groups', body, isInstant: true, disks } as const;
    await this.#operations.ask(kind, disks[0]!, name, request);
  }

  async #deleteGroup(): Promise<void> {
    const { body } = await this.#world.rest.call('GET', 'groups?state=ready&limit=10');
    const groups: { name: string; kind: string }[] = body.items ?? [];
    if (groups.length === 0) return;
    const { name, kind } = this.#random.pick(groups);
    const { disks } = this.#world;
    const hasBackups = kind === 'backup';
    if (hasBackups) for (const disk of disks) disk.proven.clear();
    const request = { method: 'DELETE', path: `groups/${name}` } as const;
    await this.#operations.ask(hasBackups ? DELETES_BACKUPS : 'delete-group', disks[0]!, name, request);
  }

  async #firePolicy(): Promise<void> {
    const { disks, rest } = this.#world;
    const name = this.#name('fired');
    const kind = this.#random.pick(['incremental', 'incremental', 'checkpoint']);
    const { repository } = this.#random.pick(disks);
    const others = disks.map(disk => disk.repository).filter(one => one !== repository);
    const body = {
      name,
      selector: DISK_SELECTOR,
      schedule: SCHEDULE,
      kind,
      repository,
      replicas: this.#random.chance(0.6) && kind !== 'checkpoint' ? others : [],
      verifyPercent: this.#random.pick([0, 50]),
      retry: { times: 3, delayMs: 0 },
      ...(this.#random.chance(0.4) && { grouped: { fenceLimitMs: FENCE_LIMIT_MS } }),
    };
    const made = await rest.call('POST', 'policies', body);
    // Making policies is tried elsewhere; here one is needed.
    if (made.status !== 201) return;
    await this.#operations.fire(FIRES_POLICY, disks, name);
  }
}
