// Byte units and the alignment arithmetic that every layer of the engine shares.

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;

/** The smallest unit a volume's size is counted in, in bytes. */
export const SECTOR_BYTES = 512;

/** Rounds down to a multiple of `unit`. Works above 2^31, unlike a mask. */
export function alignDown(value: number, unit: number): number {
  return value - (value % unit);
}

/** Rounds up to a multiple of `unit`. */
export function alignUp(value: number, unit: number): number {
  const rest = value % unit;
  return rest === 0 ? value : value - rest + unit;
}

export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}
