// Looking for zeroes in bytes that were read.

/** Compares with itself, one byte on: the first byte decides for all. */
export function isZero(bytes: Buffer): boolean {
  return bytes.length === 0 || (bytes[0] === 0 && bytes.compare(bytes, 0, bytes.length - 1, 1) === 0);
}

/** The first unit that is not all zero; undefined where there is none. */
export function firstNonZero(bytes: Buffer, unitBytes: number): number | undefined {
  if (isZero(bytes)) return undefined;
  for (let at = 0; ; at += unitBytes) if (!isZero(bytes.subarray(at, at + unitBytes))) return at;
}

/** A part of a buffer that is zero, or that is not. */
export interface Part {
  readonly start: number;
  readonly end: number;
  readonly zero: boolean;
}

/**
 * Neighbours differ. Runs of zeroes shorter than `minimumBytes`, which are looked for at its multiples only, count as
 * data.
 */
export function splitZeroes(bytes: Buffer, minimumBytes: number): Part[] {
  const parts: { start: number; end: number; zero: boolean }[] = [];
  for (let start = 0; start < bytes.length; start += minimumBytes) {
    const end = Math.min(start + minimumBytes, bytes.length);
    const zero = isZero(bytes.subarray(start, end));
    const last = parts.at(-1);
    if (last?.zero === zero) last.end = end;
    else parts.push({ start, end, zero });
  }
  return parts;
}
