// Groups on a fleet of tests: volumes on both storage nodes, requests as the api writes them, and what is left over.
import { randomUUID } from 'node:crypto';
import {
  type DroppedOfMember,
  type Group,
  hasEnded,
  intendGroup,
  intendGroupDeletion,
  type Run,
  type WantedGroup,
  type WantedHook,
} from '@tidemark/catalog';
import { type Fleet, poll } from './fleet.ts';

export const MEMBERS = ['disk', 'disk-2', 'other'];

export interface MadeGroup {
  readonly run: Run;
  readonly group: Group;
  /** As the answer to the intent has it. */
  readonly dropped?: readonly DroppedOfMember[];
}

type Wishes = Partial<Omit<WantedGroup, 'backup'>> & { backup?: Partial<NonNullable<WantedGroup['backup']>> };

export class GroupFleet {
  readonly fleet: Fleet;
  #count = 0;

  constructor(fleet: Fleet) {
    this.fleet = fleet;
  }

  /** Volumes `disk` and `disk-2` on alpha, `other` on beta, repository `vault` on beta. Needs a worker. */
  async furnish(): Promise<void> {
    await this.fleet.furnish();
    const made = await Promise.all([
      this.fleet.createVolume('disk-2'),
      this.fleet.createVolume('other', 'beta'),
    ]);
    for (const run of made) await this.fleet.succeed(run);
  }

  make(wishes: Wishes = {}): Promise<MadeGroup> {
    const { backup, ...more } = wishes;
    this.#count += 1;
    const wanted: WantedGroup = {
      ...{ name: `group-${this.#count}`, description: '', volumes: MEMBERS, completion: 'grouped' },
      ...{ fenceLimitMs: 5_000, hooks: [], dropOldest: false, ...more },
      ...(backup && { backup: { repository: 'vault', kind: 'incremental' as const, ...backup } }),
    };
    return this.fleet.catalog.transaction(tx => intendGroup(tx, randomUUID(), wanted));
  }

  backUp(completion: 'individual' | 'grouped' = 'grouped', wishes: Wishes = {}): Promise<MadeGroup> {
    return this.make({ completion, backup: {}, ...wishes });
  }

  remove(ref: string): Promise<MadeGroup> {
    const now = new Date();
    return this.fleet.catalog.transaction(tx => intendGroupDeletion(tx, randomUUID(), { ref, now }));
  }

  /** Most checkpoints that each volume of the group may have. */
  async limit(checkpointLimit: number): Promise<void> {
    const { volumes } = this.fleet.catalog;
    for (const name of MEMBERS) await volumes.update((await volumes.get(name)).id, { checkpointLimit });
  }

  /** Of each volume, with their states. */
  async checkpoints(): Promise<Record<string, string[]>> {
    const { volumes, checkpoints } = this.fleet.catalog;
    const lists = MEMBERS.map(async name => {
      const { items } = await checkpoints.list((await volumes.get(name)).id);
      return [name, items.map(one => `${one.name} ${one.state}`)] as const;
    });
    return Object.fromEntries(await Promise.all(lists));
  }

  hook(command: string, storageNode = 'alpha'): WantedHook {
    return { command, storageNode, timeoutMs: 1_000 };
  }

  group({ group }: MadeGroup): Promise<Group> {
    return this.fleet.catalog.groups.get(group.id);
  }

  async ended(made: MadeGroup): Promise<{ run: Run; group: Group }> {
    const run = await this.fleet.end(made.run);
    return { run, group: await this.group(made) };
  }

  /** Its cleaning up, too. */
  async settled(made: MadeGroup): Promise<{ run: Run; group: Group }> {
    const run = await this.fleet.until(made.run, one => hasEnded(one) && !one.cleanupPending);
    return { run, group: await this.group(made) };
  }

  /** By the volume's name. */
  async states(made: MadeGroup): Promise<Record<string, string>> {
    const { members } = await this.group(made);
    return Object.fromEntries(members.map(({ volumeName, state }) => [volumeName, state]));
  }

  async children(made: MadeGroup): Promise<Run[]> {
    const { members } = await this.group(made);
    const runs = await Promise.all(members.map(({ runId }) => this.fleet.catalog.runs.find(runId!)));
    return runs.filter(run => run !== null);
  }

  child(made: MadeGroup, volume: string): Promise<Run> {
    return poll(`the backup of ${volume}`, async () => {
      const { members } = await this.group(made);
      const { runId } = members.find(({ volumeName }) => volumeName === volume)!;
      return (await this.fleet.catalog.runs.find(runId!)) ?? undefined;
    });
  }

  /** What storage nodes and catalog have of groups; equal before and after one that failed. */
  async leftovers() {
    const { alpha, beta, catalog } = this.fleet;
    const checkpoints = await Promise.all(
      MEMBERS.map(async name => (await catalog.checkpoints.list((await catalog.volumes.get(name)).id)).items),
    );
    return {
      undecided: [...alpha.groups.groups.keys(), ...beta.groups.groups.keys()],
      moments: [...alpha.scriptedJobs.moments.keys(), ...beta.scriptedJobs.moments.keys()],
      checkpoints: [...alpha.checkpoints.keys(), ...beta.checkpoints.keys()],
      checkpointRows: checkpoints.flat().map(({ name, state }) => `${name} ${state}`),
      partial: [...alpha.partial.keys(), ...beta.partial.keys()],
      backupRows: (await catalog.backups.list({ hidden: true })).items.map(({ id }) => id),
      leases: (await catalog.backupLeases.ofBackups([...beta.published.keys()])).length,
    };
  }
}
