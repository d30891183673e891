// Runs tasks one after the other, in the order in which they came.

export class SerialQueue {
  #tail: Promise<void> = Promise.resolve();

  /** Settles as the task does; a failed task does not hold up the next. */
  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(task);
    this.#tail = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }
}
