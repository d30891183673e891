// How many bytes a repository may still take. Counts are kept on the safe side: more than what is used,
// never less.

export class SpaceBudget {
  /** Infinity: as much as the file system has. */
  readonly limitBytes: number;
  #usedBytes = 0;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  /** What is set aside counts as used. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  get leftBytes(): number {
    return Math.max(0, this.limitBytes - this.#usedBytes);
  }

  /** False, and nothing taken, where it does not fit. */
  tryTake(bytes: number): boolean {
    if (bytes > this.leftBytes) return false;
    this.#usedBytes += bytes;
    return true;
  }

  /** Counts what is on disk already, fit or not. */
  take(bytes: number): void {
    this.#usedBytes += bytes;
  }

  giveBack(bytes: number): void {
    this.#usedBytes = Math.max(0, this.#usedBytes - bytes);
  }
}
