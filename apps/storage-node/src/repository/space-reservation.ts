// Room set aside for one backup before its copy starts. What the copy takes comes out of it first, and out of the
// repository's rest where it was too small.
import type { SpaceBudget } from './space-budget.ts';

/** What is set aside on the file system that all repositories of a storage node share. */
export class SharedSpace {
  readonly #reservations = new Set<SpaceReservation>();

  /** Bytes that are set aside and not taken yet: free by what the file system says, and spoken for. */
  get spokenForBytes(): number {
    let sum = 0;
    for (const reservation of this.#reservations) sum += reservation.unusedBytes;
    return sum;
  }

  add(reservation: SpaceReservation): void {
    this.#reservations.add(reservation);
  }

  remove(reservation: SpaceReservation): void {
    this.#reservations.delete(reservation);
  }
}

export class SpaceReservation {
  readonly #budget: SpaceBudget;
  readonly #shared: SharedSpace;
  /** What the budget counts for this backup, and what of it is taken. */
  #heldBytes: number;
  #takenBytes = 0;

  private constructor(budget: SpaceBudget, shared: SharedSpace, bytes: number) {
    this.#budget = budget;
    this.#shared = shared;
    this.#heldBytes = bytes;
  }

  /** Undefined, and nothing held, where the budget has not that much. */
  static tryMake(budget: SpaceBudget, shared: SharedSpace, bytes: number): SpaceReservation | undefined {
    if (!budget.tryTake(bytes)) return undefined;
    const reservation = new SpaceReservation(budget, shared, bytes);
    shared.add(reservation);
    return reservation;
  }

  get limitBytes(): number {
    return this.#budget.limitBytes;
  }

  /** For this backup: of what is set aside, and of what nobody has. */
  get leftBytes(): number {
    return this.unusedBytes + this.#budget.leftBytes;
  }

  get unusedBytes(): number {
    return this.#heldBytes - this.#takenBytes;
  }

  tryTake(bytes: number): boolean {
    const missing = Math.max(0, this.#takenBytes + bytes - this.#heldBytes);
    if (missing > 0 && !this.#budget.tryTake(missing)) return false;
    this.#heldBytes += missing;
    this.#takenBytes += bytes;
    return true;
  }

  /** The budget counts this from now on, and nothing is set aside any more. */
  settle(usedBytes: number): void {
    this.#shared.remove(this);
    this.#budget.giveBack(this.#heldBytes);
    this.#budget.take(usedBytes);
    this.#heldBytes = 0;
    this.#takenBytes = 0;
  }
}
