// `--output=human|json`.
import type { CommandLine } from './command-line.ts';
import { ToolError } from './tool-error.ts';

export function wantsJson(line: CommandLine): boolean {
  const format = line.value('output') ?? 'human';
  if (format !== 'human' && format !== 'json') {
    throw new ToolError('--output must be used with human or json as argument.');
  }
  return format === 'json';
}
