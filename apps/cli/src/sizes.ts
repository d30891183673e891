// Sizes as people write and read them; in requests and answers they are bytes.
import { InvalidArgumentError } from 'commander';

const KIB = 1024;
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;
const SIZE = /^(\d+(?:\.\d+)?)\s*([KMGTP]iB|B)?$/i;

/** Bytes of `512MiB`, `1.5GiB` or `4096`. Throws InvalidArgumentError for anything else. */
export function parseSize(text: string): number {
  const [, digits = '', unit = 'B'] = SIZE.exec(text.trim()) ?? [];
  const power = UNITS.findIndex(known => known.toLowerCase() === unit.toLowerCase());
  const bytes = Number(digits) * KIB ** power;
  if (digits === '' || !Number.isSafeInteger(bytes)) {
    throw new InvalidArgumentError('Give whole bytes, or a number with KiB, MiB, GiB or TiB, like 512MiB.');
  }
  return bytes;
}

/** The largest unit that leaves at least 1, with at most one digit behind the point. */
export function formatSize(bytes: number): string {
  let power = 0;
  let value = bytes;
  while (value >= KIB && power < UNITS.length - 1) {
    value /= KIB;
    power += 1;
  }
  const digits = power === 0 || Number.isInteger(value) ? String(value) : value.toFixed(1);
  return `${digits} ${UNITS[power]}`;
}
