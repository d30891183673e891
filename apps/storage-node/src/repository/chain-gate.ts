// Chains of a repository change their files in steps; whoever opens several files of a chain does so before or after
// all of them. Many may be inside together, one alone; they come in the order in which they asked.

export class ChainGate {
  #last: Promise<unknown> = Promise.resolve();
  #together: Promise<unknown>[] = [];

  /** Runs `section` beside others of this kind. */
  together<T>(section: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(section);
    this.#together.push(mine.catch(() => undefined));
    return mine;
  }

  /** Runs `section` with nobody else inside. */
  alone<T>(section: () => Promise<T>): Promise<T> {
    const before = [this.#last, ...this.#together];
    this.#together = [];
    const mine = Promise.all(before).then(section);
    this.#last = mine.catch(() => undefined);
    return mine;
  }
}
