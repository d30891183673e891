// Goal: a command whose options cannot be meant begins nothing, and says which. Method: the functions by themselves;
// then every command of the suites and figures with one word that it must not take for something else.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { OptionError, oneOf, positiveNumber, wholeNumber } from './options.ts';

const TIMEOUT_MS = 120_000;

test('numbers are taken as they are written, within their bounds', () => {
  expect([wholeNumber('n', '1'), wholeNumber('n', '0', { least: 0 })]).toEqual([1, 0]);
  expect([positiveNumber('m', '3.5'), positiveNumber('m', '1000')]).toEqual([3.5, 1000]);
  expect(oneOf('through', 'grpc', ['rest', 'grpc'])).toBe('grpc');
});

test.each(['', ' 1', '-1', '1.5', '1e3', '0x10', 'NaN', 'Infinity', '0', '100'])(
  'no whole number from 1 to 99: "%s"',
  text => {
    expect(() => wholeNumber('rounds', text, { most: 99 })).toThrow(OptionError);
  },
);

test.each(['', '0', '0.0', '-1', '1,5', '.5', 'ten', 'Infinity'])('no number above 0: "%s"', text => {
  expect(() => positiveNumber('minutes', text)).toThrow(OptionError);
});

function refusalOf(command: string, args: readonly string[]): Promise<{ code: unknown; said: string }> {
  const program = fileURLToPath(new URL(`../${command}/main.ts`, import.meta.url));
  const options = { timeout: TIMEOUT_MS };
  return new Promise(resolve => {
    execFile(process.execPath, [program, ...args], options, (error, stdout, stderr) =>
      resolve({ code: error?.code, said: stdout + stderr }),
    );
  });
}

test.each([
  ['atomicity', '--through', 'rst', '--through rst is not known: give rest or grpc.'],
  ['crash', '--rounds', '1,000', '--rounds 1,000 is not a whole number from 1 on.'],
  ['scale', '--rate', 'fast', '--rate fast is not a number above 0.'],
  ['bench', '--rounds', '100', '--rounds 100 is not a whole number from 1 to 99.'],
  ['demo', '--kept', '', "Unknown option '--kept'"],
])(
  '%s %s %s',
  async (command, option, value, message) => {
    const { code, said } = await refusalOf(command, [option, value]);
    expect(said).toContain(message);
    expect(said).not.toContain('    at ');
    expect(code).toBe(2);
  },
  TIMEOUT_MS,
);
