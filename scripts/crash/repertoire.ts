// What is asked of the api in a round, chosen by the seed: on every disk two lanes, one of backups, one of the rest.
import type { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { spoil } from './contents.ts';
import { CHAIN_KEPT, CHECKPOINTS_KEPT, ROUNDS_OF_A_RESTORE } from './limits.ts';
import type { Operation, Operations } from './operation.ts';
import type { RoundNames } from './round-names.ts';
import { type Disk, MIXED, NODES, SPARE_NODE, type World } from './world.ts';

interface Checkpoint {
  readonly name: string;
  readonly state: string;
}

interface Backup {
  readonly id: string;
  readonly checkpoint: string;
  readonly state: string;
  readonly kind: string;
  readonly repositoryId: string;
}

/** Runs slow enough to be cut in two: bytes a second. */
const SLOW_BYTES = [2 * 1024 * 1024, undefined, undefined] as const;
type Act = (disk: Disk) => Promise<unknown>;

export class Repertoire {
  readonly #world: World;
  readonly #random: SeededRandom;
  readonly #operations: Operations;
  readonly #number: number;
  readonly #name: RoundNames;
  readonly #claimed = new Set<string>();

  constructor(
    world: World,
    random: SeededRandom,
    options: { operations: Operations; number: number; name: RoundNames },
  ) {
    this.#world = world;
    this.#random = random;
    this.#operations = options.operations;
    this.#number = options.number;
    this.#name = options.name;
  }

  async perform(): Promise<void> {
    const lanes = this.#world.disks.flatMap(disk => [this.#backups(disk), this.#others(disk)]);
    await Promise.all(lanes);
  }

  async #backups(disk: Disk): Promise<void> {
    const chain = await this.#chainLength(disk);
    for (let count = this.#random.int(1, 2); count > 0; count -= 1) {
      const isFull = chain === 0 || chain > CHAIN_KEPT || this.#random.chance(0.1);
      const kind = this.#random.chance(0.15) ? 'differential' : 'incremental';
      await this.#backUp(disk, isFull ? 'full' : kind);
    }
  }

  async #others(disk: Disk): Promise<void> {
    const checkpoints = await this.#checkpoints(disk);
    if (checkpoints.length > CHECKPOINTS_KEPT) await this.#deleteCheckpoint(disk);
    const acts: [share: number, act: Act][] = [
      [18, one => this.#createCheckpoint(one)],
      [12, one => this.#deleteCheckpoint(one)],
      [12, one => this.#restore(one, 'file')],
      [12, one => this.#restore(one, 'volume')],
      [12, one => this.#restore(one, 'instant')],
      [16, one => this.#restoreInPlace(one)],
      [8, one => this.#ofBackup('verify', one)],
      [12, one => this.#prune(one, one.repository)],
      [12, one => this.#replicate(one)],
      [5, one => this.#prune(one, this.#elsewhere(one))],
      [6, one => this.#ofBackup('delete-backup', one)],
      [6, one => this.#ask('audit', one, { path: `volumes/${one.name}/audit`, body: {} })],
      [4, one => this.#ask('reconcile', one, { path: 'reconcile', body: {} })],
      [4, one => this.#describeCheckpoint(one)],
      [4, one => this.#ask('scan', one, { path: `repositories/${one.repository}/scan`, body: {} })],
      [4, one => this.#createVolume(one)],
      [10, one => this.#moveVolume(one)],
    ];
    let dice = this.#random.int(
      1,
      acts.reduce((sum, [share]) => sum + share, 0),
    );
    const [, act] = acts.find(([share]) => {
      dice -= share;
      return dice <= 0;
    })!;
    await act(disk);
    await this.#deleteOldVolumes(disk);
  }

  #backUp(disk: Disk, kind: string): Promise<Operation> {
    const name = this.#name('backup');
    // A full one would take a minute, and is cut in two at any speed.
    const speedBytesPerSecond = kind === 'full' ? undefined : this.#random.pick(SLOW_BYTES);
    const body = {
      volume: disk.name,
      repository: disk.repository,
      kind,
      checkpoint: name,
      ...(speedBytesPerSecond && { speedBytesPerSecond }),
    };
    return this.#operations.ask(`backup-${kind}`, disk, name, {
      method: 'POST',
      path: 'backups',
      body,
      isInstant: true,
    });
  }

  #createCheckpoint(disk: Disk): Promise<Operation> {
    const name = this.#name('checkpoint');
    const path = `volumes/${disk.name}/checkpoints`;
    const request = { method: 'POST', path, body: { name }, isInstant: true } as const;
    return this.#operations.ask('create-checkpoint', disk, name, request);
  }

  async #deleteCheckpoint(disk: Disk): Promise<void> {
    const name = await this.#someCheckpoint(disk);
    if (name === undefined) return;
    const path = `volumes/${disk.name}/checkpoints/${name}`;
    await this.#operations.ask('delete-checkpoint', disk, name, { method: 'DELETE', path });
  }

  async #describeCheckpoint(disk: Disk): Promise<void> {
    const name = await this.#someCheckpoint(disk);
    if (name === undefined) return;
    const path = `volumes/${disk.name}/checkpoints/${name}`;
    const body = { description: `seen in round ${this.#number}` };
    await this.#operations.ask('rename-checkpoint', disk, name, { method: 'PATCH', path, body });
  }

  async #someCheckpoint(disk: Disk): Promise<string | undefined> {
    const ready = (await this.#checkpoints(disk))
      .filter(checkpoint => checkpoint.state === 'ready')
      .slice(0, -1);
    return ready.length === 0 ? undefined : this.#random.pick(ready).name;
  }

  async #restore(disk: Disk, target: 'file' | 'volume' | 'instant'): Promise<void> {
    const backup = await this.#someBackup(disk);
    if (backup === undefined) return;
    const name = `${this.#name('restored')}.${backup.checkpoint}`;
    const storageNode = this.#random.pick([...NODES, SPARE_NODE]);
    const format = target === 'instant' ? 'qcow2' : this.#random.pick(['raw', 'qcow2']);
    const where = target === 'file' ? { name, storageNode } : { name, storageNode, format };
    const request = {
      method: 'POST',
      path: 'restores',
      body: { backup: backup.id, target: { [target]: where } },
    } as const;
    this.#world.restoredOf.set(name, disk);
    const kind = target === 'instant' ? 'restore-instant' : `restore-to-${target}`;
    const operation = await this.#operations.ask(kind, disk, name, request);
    const mayBeThere = operation.end === 'succeeded' || operation.end === 'unknown';
    if (target === 'file' && mayBeThere) this.#world.restoredFiles.get(storageNode)!.set(name, operation.end);
  }

  async #ofBackup(what: 'verify' | 'delete-backup', disk: Disk): Promise<void> {
    const backup = await this.#someBackup(disk);
    if (backup === undefined) return;
    if (what === 'delete-backup') disk.proven.clear();
    const path = `backups/${backup.id}`;
    const request =
      what === 'verify'
        ? ({ method: 'POST', path: `${path}/verify`, body: {} } as const)
        : ({ method: 'DELETE', path } as const);
    await this.#operations.ask(what, disk, backup.checkpoint, request);
  }

  /** To the repository of another disk. */
  async #replicate(disk: Disk): Promise<void> {
    const backup = await this.#someBackup(disk, disk.repositoryId);
    if (backup === undefined) return;
    const speedBytesPerSecond = this.#random.pick(SLOW_BYTES);
    const flatten = this.#random.chance(0.3);
    const body = {
      repository: this.#elsewhere(disk),
      flatten,
      ...(speedBytesPerSecond && { speedBytesPerSecond }),
    };
    const request = { method: 'POST', path: `backups/${backup.id}/replicate`, body } as const;
    await this.#operations.ask('replicate', disk, backup.checkpoint, request);
  }

  #elsewhere(disk: Disk): string {
    return this.#world.disks.find(other => other !== disk)!.repository;
  }

  async #prune(disk: Disk, repository: string): Promise<void> {
    disk.proven.clear();
    const keep = { last: this.#random.int(2, 6) };
    const body = { volume: disk.name, repository, keep };
    await this.#ask('prune', disk, { path: 'prune', body });
  }

  /** A small one that nothing is done with but being deleted in a later round. */
  async #createVolume(disk: Disk): Promise<void> {
    const name = this.#name('spare');
    const body = {
      name,
      storageNode: this.#random.pick([disk.node, SPARE_NODE]),
      sizeBytes: 1024 * 1024,
      format: this.#random.pick(['raw', 'qcow2']),
    };
    await this.#operations.ask('new-volume', disk, name, { method: 'POST', path: 'volumes', body });
  }

  /** One that was restored or made before, to another storage node. */
  async #moveVolume(disk: Disk): Promise<void> {
    const { body } = await this.#world.rest.call('GET', 'volumes');
    const volumes: { name: string; state: string; storageNode: string }[] = body.items ?? [];
    const old = volumes.filter(({ name, state }) => this.#ageOf(name) > 0 && state === 'ready');
    const volume = old.find(({ name }) => this.#claim(name));
    if (volume === undefined) return this.#createVolume(disk);
    const storageNode = this.#random.pick(NODES.filter(node => node !== volume.storageNode));
    const path = `volumes/${volume.name}/move`;
    await this.#operations.ask('move-volume', disk, volume.name, {
      method: 'POST',
      path,
      body: { storageNode },
    });
  }

  /** Over a volume that was restored before, and that was written to since: also one where that did not succeed. */
  async #restoreInPlace(disk: Disk): Promise<void> {
    const backup = await this.#someBackup(disk);
    const { body } = await this.#world.rest.call('GET', 'volumes');
    const volumes: { name: string; state: string; exportUri: string }[] = body.items ?? [];
    // Of earlier rounds: one of this may still be pulling.
    const restored = volumes.filter(
      ({ name, state }) => /^restored-r/.test(name) && this.#ageOf(name) > 0 && state === 'ready',
    );
    const volume = restored.find(({ name }) => this.#claim(name));
    if (backup === undefined) return;
    if (volume === undefined) return this.#restore(disk, 'volume');
    const { overwritten, restoredOf } = this.#world;
    overwritten.set(volume.name, MIXED);
    const isSpoiled = await spoil(volume.exportUri, this.#random).catch(() => false);
    if (!isSpoiled) return;
    const target = { inPlace: { volume: volume.name } };
    const request = { method: 'POST', path: 'restores', body: { backup: backup.id, target } } as const;
    const { end } = await this.#operations.ask('restore-in-place', disk, volume.name, request);
    if (end !== 'succeeded') return;
    overwritten.set(volume.name, backup.checkpoint);
    restoredOf.set(volume.name, disk);
  }

  /** Volumes that are only there to be restored over or deleted: one lane has each in a round. */
  #claim(volume: string): boolean {
    if (this.#claimed.has(volume)) return false;
    this.#claimed.add(volume);
    return true;
  }

  #isOld(volume: string): boolean {
    return this.#ageOf(volume) >= (volume.startsWith('restored-') ? ROUNDS_OF_A_RESTORE : 1);
  }

  /** In rounds; of the disks themselves -1. */
  #ageOf(volume: string): number {
    const made = /^(?:restored|spare)-r(\d+)-/.exec(volume);
    return made === null ? -1 : this.#number - Number(made[1]);
  }

  /** Those of earlier rounds, which have been compared. */
  async #deleteOldVolumes(disk: Disk): Promise<void> {
    // One lane's, not both's.
    if (disk !== this.#world.disks[0]) return;
    const { body } = await this.#world.rest.call('GET', 'volumes');
    for (const volume of (body.items ?? []) as { name: string; state: string }[]) {
      if (!this.#isOld(volume.name) || volume.state !== 'ready' || !this.#claim(volume.name)) continue;
      const request = { method: 'DELETE', path: `volumes/${volume.name}` } as const;
      await this.#operations.ask('delete-volume', disk, volume.name, request);
    }
  }

  #ask(kind: string, disk: Disk, request: { path: string; body: object }): Promise<Operation> {
    return this.#operations.ask(kind, disk, this.#name(kind), { method: 'POST', ...request });
  }

  async #someBackup(disk: Disk, repositoryId?: string): Promise<Backup | undefined> {
    const { body } = await this.#world.rest.call('GET', `backups?volume=${disk.id}&limit=50`);
    const available = ((body.items ?? []) as Backup[])
      .filter(backup => backup.state === 'available')
      .filter(backup => repositoryId === undefined || backup.repositoryId === repositoryId);
    return available.length === 0 ? undefined : this.#random.pick(available);
  }

  async #checkpoints(disk: Disk): Promise<Checkpoint[]> {
    const { body } = await this.#world.rest.call('GET', `volumes/${disk.name}/checkpoints?limit=100`);
    return body.items ?? [];
  }

  async #chainLength(disk: Disk): Promise<number> {
    const place = `volume=${disk.id}&repository=${disk.repository}`;
    const { body } = await this.#world.rest.call('GET', `backups?${place}&limit=50`);
    const newestFirst: Backup[] = body.items ?? [];
    const length = newestFirst.findIndex(backup => backup.kind === 'full');
    return length < 0 ? newestFirst.length : length + 1;
  }
}
