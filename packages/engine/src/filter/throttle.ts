// The `throttle` driver: lets requests pass at the speed that its group allows.
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { PassThrough } from './pass-through.ts';
import type { ThrottleDirection, ThrottleGroup, ThrottleMember } from './throttle-group.ts';

export class Throttle extends PassThrough {
  readonly driver = 'throttle';
  readonly #member: ThrottleMember = { waiting: { read: [], write: [] } };
  #group: ThrottleGroup;
  #drains = 0;

  constructor(file: BlockNode, group: ThrottleGroup) {
    super(file);
    this.#group = group;
    group.join(this.#member);
  }

  get group(): ThrottleGroup {
    return this.#group;
  }

  /** What waits under the old group's limits starts at once. */
  moveTo(group: ThrottleGroup): void {
    if (group === this.#group) return;
    this.#group.leave(this.#member);
    this.#group = group;
    group.join(this.#member);
  }

  override read(offset: number, buffer: Buffer): Pending {
    return this.#throttled('read', buffer.length, () => super.read(offset, buffer));
  }
  override write(offset: number, buffer: Buffer): Pending {
    return this.#throttled('write', buffer.length, () => super.write(offset, buffer));
  }
  override writeCompressed(offset: number, buffer: Buffer): Pending {
    return this.#throttled('write', buffer.length, () => super.writeCompressed(offset, buffer));
  }
  override writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    return this.#throttled('write', length, () => super.writeZeroes(offset, length, options));
  }
  override discard(offset: number, length: number): Pending {
    return this.#throttled('write', length, () => super.discard(offset, length));
  }

  /** While somebody waits for all requests to end, none is held back. */
  drainBegin(): void {
    this.#drains++;
    this.#group.release(this.#member);
  }

  drainEnd(): void {
    this.#drains--;
  }

  override async close(): Promise<void> {
    this.#group.leave(this.#member);
  }

  #throttled(direction: ThrottleDirection, bytes: number, request: () => Pending): Pending {
    const admitted = this.#drains > 0 ? undefined : this.#group.admit(this.#member, direction, bytes);
    return admitted === undefined ? request() : admitted.then(request);
  }
}
