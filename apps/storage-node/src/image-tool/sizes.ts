// Numbers of bytes as people write and read them.
import { ToolError } from './tool-error.ts';

const UNITS = ['', 'k', 'm', 'g', 't', 'p', 'e'];
const NAMES = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];
const STEP = 1024;

/** `1.5G`, `4M`, `512`; undefined where it is no size. */
export function parseSize(text: string): number | undefined {
  const [, number, unit] = /^(0x[0-9a-f]+|\d+(?:\.\d*)?|\.\d+)([bkmgtpe]?)$/i.exec(text.trim()) ?? [];
  if (number === undefined) return undefined;
  const power = unit === undefined || unit === 'b' || unit === 'B' ? 0 : UNITS.indexOf(unit.toLowerCase());
  const bytes = Number(number) * STEP ** power;
  return Number.isInteger(bytes) && bytes < 2 ** 63 ? bytes : undefined;
}

/** Throws where it is none; `what` is such as `image size`. */
export function sizeArgument(text: string, what: string): number {
  const bytes = parseSize(text);
  if (bytes !== undefined) return bytes;
  throw new ToolError(
    `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for\n` +
      'tidemark-image: kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.',
  );
}

/** Three digits: `196 KiB`, `1.44 MiB`. A unit is changed at 1000, not at 1024. */
export function humanSize(bytes: number): string {
  let unit = 0;
  while (unit < NAMES.length - 1 && bytes / STEP ** unit >= 1000) unit++;
  return `${Number((bytes / STEP ** unit).toPrecision(3))} ${NAMES[unit]}B`;
}
