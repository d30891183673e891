// Options of the project's commands. What cannot be meant is refused by its name before anything begins: a number that
// is none compares as false everywhere, and a suite that plays no round is green.

/** An option's text cannot be meant; the message names the option, and what it takes. */
export class OptionError extends Error {}

const WHOLE = /^\d{1,15}$/;
const DECIMAL = /^\d{1,9}(\.\d{1,9})?$/;

/** From `least` (1 unless said) to `most` (2^53 - 1 unless said). Rejects with `OptionError`. */
export function wholeNumber(
  name: string,
  text: string,
  { least = 1, most = Number.MAX_SAFE_INTEGER }: { least?: number; most?: number } = {},
): number {
  const value = Number(text);
  if (WHOLE.test(text) && value >= least && value <= most) return value;
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least} on` : `from ${least} to ${most}`;
  throw new OptionError(`--${name} ${text} is not a whole number ${range}.`);
}

/** More than nothing. Rejects with `OptionError`. */
export function positiveNumber(name: string, text: string): number {
  const value = Number(text);
  if (DECIMAL.test(text) && value > 0) return value;
  throw new OptionError(`--${name} ${text} is not a number above 0.`);
}

/** Rejects with `OptionError`. */
export function oneOf<T extends string>(name: string, text: string, choices: readonly T[]): T {
  const choice = choices.find(one => one === text);
  if (choice !== undefined) return choice;
  throw new OptionError(`--${name} ${text} is not known: give ${choices.join(' or ')}.`);
}

/** What `read` makes of the command's line. Where that is refused, the process ends with 2 and says why. */
export function optionsOf<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!isRefusal(error)) throw error;
    console.error(error.message);
    process.exit(2);
  }
}

function isRefusal(error: unknown): error is Error {
  if (error instanceof OptionError) return true;
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS_');
}
