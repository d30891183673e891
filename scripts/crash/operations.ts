// What is asked of the api in a round, chosen by the seed, and what became of it.
import { setTimeout as delay } from 'node:timers/promises';
import type { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import type { Window } from './disk-model.ts';
import { CHAIN_KEPT, CHECKPOINTS_KEPT } from './limits.ts';
import type { Answer, RunJson } from './rest.ts';
import type { Disk, World } from './world.ts';

/** `unknown`: no answer came, or its run was not seen to end. */
export type OperationEnd = 'succeeded' | 'failed' | 'cancelled' | 'refused' | 'unknown';

export interface Operation {
  readonly kind: string;
  readonly disk: Disk;
  /** Of what it makes: a checkpoint, a volume or a file. */
  readonly name: string;
  readonly isCancelled: boolean;
  end: OperationEnd;
  run: RunJson | undefined;
  error: { code: string; message: string } | undefined;
}

interface Request {
  readonly method: 'POST' | 'DELETE';
  readonly path: string;
  readonly body?: object;
  /** It takes a point in time. */
  readonly isInstant?: boolean;
}

interface Checkpoint {
  readonly name: string;
  readonly state: string;
  readonly backups: string[];
}

interface Backup {
  readonly id: string;
  readonly checkpoint: string;
  readonly state: string;
  readonly kind: string;
}

/** Runs slow enough to be cut in two: bytes a second. */
const SLOW_BYTES = [2 * 1024 * 1024, undefined, undefined] as const;
const CANCEL_AFTER_MS_MAX = 700;

export class Operations {
  readonly done: Operation[] = [];
  readonly #world: World;
  readonly #random: SeededRandom;
  readonly #label: string;
  /** The guest rests around points in time, so that they are known to the block. */
  readonly #isQuiet: boolean;
  #count = 0;

  constructor(world: World, random: SeededRandom, options: { label: string; isQuiet: boolean }) {
    this.#world = world;
    this.#random = random;
    this.#label = options.label;
    this.#isQuiet = options.isQuiet;
  }

  /** Several, on every disk, those of one lane one after the other. */
  async perform(): Promise<void> {
    const lanes = this.#world.disks.flatMap(disk => [this.#backups(disk), this.#others(disk)]);
    await Promise.all(lanes);
  }

  async #backups(disk: Disk): Promise<void> {
    const chain = await this.#chainLength(disk);
    for (let count = this.#random.int(1, 2); count > 0; count -= 1) {
      const isFull = chain === 0 || chain > CHAIN_KEPT || this.#random.chance(0.1);
      await this.#backUp(disk, isFull ? 'full' : 'incremental');
    }
  }

  async #others(disk: Disk): Promise<void> {
    const dice = this.#random.int(1, 100);
    const checkpoints = await this.#checkpoints(disk);
    if (checkpoints.length > CHECKPOINTS_KEPT) await this.#deleteCheckpoint(disk, checkpoints);
    if (dice <= 25) await this.#createCheckpoint(disk);
    else if (dice <= 40) await this.#deleteCheckpoint(disk, checkpoints);
    else if (dice <= 60) await this.#restore(disk, 'file');
    else if (dice <= 80) await this.#restore(disk, 'volume');
    await this.#deleteRestoredVolumes(disk);
  }

  #backUp(disk: Disk, kind: 'full' | 'incremental'): Promise<Operation> {
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
    return this.#ask(`backup-${kind}`, disk, name, {
      method: 'POST',
      path: 'backups',
      body,
      isInstant: true,
    });
  }

  #createCheckpoint(disk: Disk): Promise<Operation> {
    const name = this.#name('checkpoint');
    const path = `volumes/${disk.name}/checkpoints`;
    return this.#ask('create-checkpoint', disk, name, {
      method: 'POST',
      path,
      body: { name },
      isInstant: true,
    });
  }

  async #deleteCheckpoint(disk: Disk, checkpoints: readonly Checkpoint[]): Promise<void> {
    const ready = checkpoints.filter(checkpoint => checkpoint.state === 'ready').slice(0, -1);
    if (ready.length === 0) return;
    const { name } = this.#random.pick(ready);
    const path = `volumes/${disk.name}/checkpoints/${name}`;
    await this.#ask('delete-checkpoint', disk, name, { method: 'DELETE', path });
  }

  async #restore(disk: Disk, target: 'file' | 'volume'): Promise<void> {
    const { body } = await this.#world.rest.call('GET', `backups?volume=${disk.id}&limit=50`);
    const available = ((body.items ?? []) as Backup[]).filter(backup => backup.state === 'available');
    if (available.length === 0) return;
    const backup = this.#random.pick(available);
    const name = `${this.#name('restored')}.${backup.checkpoint}`;
    const storageNode = this.#random.pick(['alpha', 'beta']);
    const format = this.#random.pick(['raw', 'qcow2']);
    const where =
      target === 'file' ? { file: { name, storageNode } } : { volume: { name, storageNode, format } };
    const request = { method: 'POST', path: 'restores', body: { backup: backup.id, target: where } } as const;
    const operation = await this.#ask(`restore-to-${target}`, disk, name, request);
    if (target === 'file' && operation.end !== 'failed' && operation.end !== 'cancelled') {
      this.#world.restoredFiles.get(storageNode)!.add(name);
    }
  }

  /** Those of earlier rounds, which have been compared. */
  async #deleteRestoredVolumes(disk: Disk): Promise<void> {
    const { body } = await this.#world.rest.call('GET', 'volumes');
    for (const volume of (body.items ?? []) as { name: string; state: string }[]) {
      const isOld = volume.name.startsWith('restored-') && !volume.name.includes(this.#label);
      // One lane's, not both's.
      if (!isOld || volume.state !== 'ready' || disk !== this.#world.disks[0]) continue;
      const request = { method: 'DELETE', path: `volumes/${volume.name}` } as const;
      await this.#ask('delete-volume', disk, volume.name, request);
    }
  }

  async #ask(kind: string, disk: Disk, name: string, request: Request): Promise<Operation> {
    const isCancelled = request.method === 'POST' && this.#random.chance(0.12);
    const cancelAfterMs = this.#random.int(0, CANCEL_AFTER_MS_MAX);
    const operation: Operation = {
      kind,
      disk,
      name,
      isCancelled,
      end: 'unknown',
      run: undefined,
      error: undefined,
    };
    this.done.push(operation);
    const { guest } = disk;
    const isQuiet = this.#isQuiet && request.isInstant === true;
    if (isQuiet) await guest.pause();
    const window: { from: number; to: number } = { from: guest.model.now(), to: Number.POSITIVE_INFINITY };
    if (request.isInstant) disk.known.set(name, { name, window });
    const reached = () => {
      if (window.to !== Number.POSITIVE_INFINITY) return;
      window.to = guest.model.now();
      if (isQuiet) guest.resume();
    };
    const answer = await this.#world.rest.call(request.method, request.path, request.body);
    if (answer.status === 0 || answer.status >= 300) {
      refuse(operation, answer);
      reached();
      if (answer.status === 0) (window as Window & { to: number }).to = Number.POSITIVE_INFINITY;
      return operation;
    }
    if (isCancelled) void this.#cancelLater(answer.body.run.id, cancelAfterMs);
    const run = await this.#world.rest.follow(answer.body.run.id, state => {
      if (state.checkpointAt !== null) reached();
    });
    reached();
    operation.run = run;
    operation.end = run === undefined ? 'unknown' : (run.state as OperationEnd);
    operation.error = run?.error ?? undefined;
    return operation;
  }

  async #cancelLater(runId: string, afterMs: number): Promise<void> {
    await delay(afterMs);
    await this.#world.rest.call('POST', `runs/${runId}/cancel`);
  }

  async #checkpoints(disk: Disk): Promise<Checkpoint[]> {
    const { body } = await this.#world.rest.call('GET', `volumes/${disk.name}/checkpoints?limit=100`);
    return body.items ?? [];
  }

  async #chainLength(disk: Disk): Promise<number> {
    const { body } = await this.#world.rest.call('GET', `backups?volume=${disk.id}&limit=50`);
    const newestFirst: Backup[] = body.items ?? [];
    const length = newestFirst.findIndex(backup => backup.kind === 'full');
    return length < 0 ? newestFirst.length : length + 1;
  }

  #name(what: string): string {
    this.#count += 1;
    return `${what}-${this.#label}-${this.#count}`;
  }
}

function refuse(operation: Operation, { status, body }: Answer): void {
  operation.end = status === 0 ? 'unknown' : 'refused';
  operation.error = { code: String(body.code), message: String(body.detail) };
}
