// Chains of a repository change their files in steps; whoever opens several files of a chain does so before or after
// all of them. Many may be inside together, one alone; they come in the order in which they asked.

export class ChainGate {
  #last: Promise<unknown> = Promise.resolve();
  readonly #together = new Set<Promise<void>>();

  /** Runs `section` beside others of this kind. */
  together<T>(section: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(section);
    // Neither what it resolves with nor the section itself is kept longer than it takes.
    const ended = mine.then(nothing, nothing);
    this.#together.add(ended);
    void ended.then(() => this.#together.delete(ended));
    return mine;
  }

  /** Runs `section` with nobody else inside. */
  alone<T>(section: () => Promise<T>): Promise<T> {
    const mine = Promise.all([this.#last, ...this.#together]).then(section);
    this.#last = mine.then(nothing, nothing);
    return mine;
  }
}

function nothing(): void {}
