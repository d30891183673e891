// Places of a disk that are damaged, as a list in order whose ranges neither touch nor overlap.

/** Bytes. */
export interface DamagedRange {
  offset: number;
  length: number;
}

/** As the catalog's JSON columns hold them; none where there is nothing. */
export function rangesOf(json: unknown): DamagedRange[] {
  return Array.isArray(json) ? (json as DamagedRange[]) : [];
}

/** For a JSON column: of what is given, offsets and lengths alone. */
export function rangesJson(ranges: readonly DamagedRange[]): { offset: number; length: number }[] {
  return ranges.map(({ offset, length }) => ({ offset, length }));
}

/** In order, and joined where they touch. */
export function unionOf(ranges: readonly DamagedRange[]): DamagedRange[] {
  const joined: DamagedRange[] = [];
  for (const { offset, length } of ranges.toSorted((one, other) => one.offset - other.offset)) {
    const last = joined.at(-1);
    if (last === undefined || last.offset + last.length < offset) joined.push({ offset, length });
    else last.length = Math.max(last.length, offset + length - last.offset);
  }
  return joined;
}

/** What of the ranges is not in the others. */
export function without(ranges: readonly DamagedRange[], others: readonly DamagedRange[]): DamagedRange[] {
  const left: DamagedRange[] = [];
  const cuts = unionOf(others);
  let index = 0;
  for (const { offset, length } of unionOf(ranges)) {
    const end = offset + length;
    let from = offset;
    while (index < cuts.length && cuts[index]!.offset + cuts[index]!.length <= from) index++;
    for (let at = index; at < cuts.length && cuts[at]!.offset < end; at++) {
      const cut = cuts[at]!;
      if (cut.offset > from) left.push({ offset: from, length: cut.offset - from });
      from = Math.max(from, cut.offset + cut.length);
    }
    if (from < end) left.push({ offset: from, length: end - from });
  }
  return left;
}
