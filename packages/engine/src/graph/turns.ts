// One after the other, in the order of their asking.

export class Turns {
  #last: Promise<void> = Promise.resolve();

  /** Resolves with what ends the turn, once all earlier ones have ended. */
  async take(): Promise<() => void> {
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = promise;
    await before;
    return resolve;
  }
}
