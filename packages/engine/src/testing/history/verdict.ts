// Where the observers of a history put what they see that must not be. They cannot throw: they are called from
// inside the engine, which would take that for a failed request.

export const INVARIANTS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] as const;
/** The number of an invariant; 'model': more than the invariants ask for, yet not as the model has it. */
export type Invariant = (typeof INVARIANTS)[number] | 'model';

export class Violation extends Error {
  readonly invariant: Invariant;

  constructor(invariant: Invariant, text: string) {
    super(invariant === 'model' ? `model: ${text}` : `INV-${invariant}: ${text}`);
    this.name = 'Violation';
    this.invariant = invariant;
  }
}

export class Verdict {
  #first: Violation | undefined;

  report(invariant: Invariant, text: string): void {
    this.#first ??= new Violation(invariant, text);
  }

  /** Throws what was seen first. */
  assertClean(): void {
    if (this.#first !== undefined) throw this.#first;
  }
}
