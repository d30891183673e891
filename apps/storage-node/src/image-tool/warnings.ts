// What the tool says besides its results.
import type { Layer } from './layers.ts';
import type { ToolOutput } from './tool.ts';

/** A guest can write a format's mark on a raw disk: whoever changes such an image had better say what it is. */
export function warnOfGuess(
  { name, format, guessed }: Pick<Layer, 'name' | 'format' | 'guessed'>,
  { err }: ToolOutput,
): void {
  if (!guessed || format !== 'raw') return;
  err(
    `WARNING: Image format was not specified for '${name}' and probing guessed raw.\n` +
      '         Automatically detecting the format is dangerous for raw images.\n' +
      "         Specify the 'raw' format explicitly to be sure.\n",
  );
}
