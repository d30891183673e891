// Tells other processes, by locks on bytes of the file, what this one does to it and what it lets others do, in
// the way in which QEMU's tools do: so they and this engine keep away from each other's images.
//
// Byte 100 + n is locked by who uses permission n, byte 200 + n by who does not share it. Locks are shared ones;
// looking for the other's lock is what excludes.
import { EngineError } from '../errors.ts';
import { isByteLockedElsewhere, lockByteSync } from './syscalls.ts';

const USED_BASE = 100;
const UNSHARED_BASE = 200;

/** By bit, as they are called in messages. */
const NAMES = ['consistent read', 'write', 'write unchanged', 'resize'];

/** Masks of permissions. */
export interface LockedPermissions {
  uses: number;
  shares: number;
}

const NOTHING: LockedPermissions = { uses: 0, shares: 2 ** NAMES.length - 1 };

export class PermissionLocks {
  readonly #fd: () => number;
  readonly #path: string;
  #held = NOTHING;

  constructor(fd: () => number, path: string) {
    this.#fd = fd;
    this.#path = path;
  }

  /** Throws kind `busy`, with the old locks held, where another process excludes it. Returns the way back. */
  change(next: LockedPermissions): () => void {
    const before = this.#held;
    if (before.uses === next.uses && before.shares === next.shares) return () => {};
    const both = { uses: before.uses | next.uses, shares: before.shares & next.shares };
    this.#move(both);
    try {
      this.#assertFree(next, before);
    } catch (error) {
      this.#move(before);
      throw error;
    }
    this.#move(next);
    return () => this.#move(before);
  }

  /** Takes the same locks for a new open file of the same name. */
  moveTo(fd: number): void {
    for (const byte of lockedBytes(this.#held)) lockByteSync(fd, byte, true);
  }

  #assertFree(next: LockedPermissions, before: LockedPermissions): void {
    for (const [bit, name] of NAMES.entries()) {
      const mask = 2 ** bit;
      const uses = (next.uses & mask) !== 0 && (before.uses & mask) === 0;
      if (uses && isByteLockedElsewhere(this.#fd(), UNSHARED_BASE + bit)) throw this.#busy(`"${name}"`);
      const excludes = (next.shares & mask) === 0 && (before.shares & mask) !== 0;
      if (excludes && isByteLockedElsewhere(this.#fd(), USED_BASE + bit))
        throw this.#busy(`shared "${name}"`);
    }
  }

  #busy(what: string): EngineError {
    const hint = `Is another process using the image [${this.#path}]?`;
    return new EngineError('busy', `Failed to get ${what} lock`, { op: 'lock', path: this.#path, hint });
  }

  #move(next: LockedPermissions): void {
    const before = new Set(lockedBytes(this.#held));
    const after = new Set(lockedBytes(next));
    for (const byte of after) if (!before.has(byte)) lockByteSync(this.#fd(), byte, true);
    for (const byte of before) if (!after.has(byte)) lockByteSync(this.#fd(), byte, false);
    this.#held = next;
  }
}

function lockedBytes({ uses, shares }: LockedPermissions): number[] {
  return NAMES.flatMap((_name, bit) => {
    const mask = 2 ** bit;
    const used = (uses & mask) === 0 ? [] : [USED_BASE + bit];
    return (shares & mask) === 0 ? [...used, UNSHARED_BASE + bit] : used;
  });
}
