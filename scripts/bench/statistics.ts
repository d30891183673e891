// What a handful of measurements say: the one in the middle, and how far apart they lie.

export interface Summary {
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
}

/** Of at least one value. */
export function summarize(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return {
    median: (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2,
    lowest: sorted[0]!,
    highest: sorted.at(-1)!,
  };
}
