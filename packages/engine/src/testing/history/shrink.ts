// Makes a failing history smaller: drops steps, and parts of steps, as long as it still fails.

/**
 * @param attempt what is wrong with a history, or undefined.
 * @param goOn asked before each attempt.
 */
export async function shrinkHistory<Step extends object>(
  failing: { steps: readonly Step[]; reason: unknown },
  attempt: (steps: readonly Step[]) => Promise<unknown>,
  goOn: () => boolean,
): Promise<{ steps: readonly Step[]; reason: unknown }> {
  let { steps, reason } = failing;
  for (let index = 0; ; ) {
    const fewer = [...smaller(steps)][index];
    if (fewer === undefined || !goOn()) return { steps, reason };
    const still = await attempt(fewer);
    if (still === undefined) index++;
    else [steps, reason] = [fewer, still];
  }
}

/** Each history that lacks one step, or one element of a list inside a step; the later ones of a list first. */
function* smaller<Step extends object>(steps: readonly Step[]): Generator<readonly Step[]> {
  for (let index = steps.length - 1; index >= 0; index--) yield steps.toSpliced(index, 1);
  for (const [index, step] of steps.entries()) {
    for (const less of smallerStep(step)) yield steps.with(index, less as Step);
  }
}

function* smallerStep(step: object): Generator<object> {
  for (const [key, value] of Object.entries(step)) {
    if (Array.isArray(value)) {
      for (let index = value.length - 1; index >= 0; index--) {
        yield { ...step, [key]: value.toSpliced(index, 1) };
      }
    } else if (typeof value === 'object' && value !== null) {
      for (const less of smallerStep(value)) yield { ...step, [key]: less };
    }
  }
}
