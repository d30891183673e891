// Finds the command, reads its options, and makes its end an exit code.
import { type CommandLine, parseCommandLine } from './command-line.ts';
import { bitmapCommand } from './commands/bitmap.ts';
import { checkCommand } from './commands/check.ts';
import { compareCommand } from './commands/compare.ts';
import { convertCommand } from './commands/convert.ts';
import { createCommand } from './commands/create.ts';
import { infoCommand } from './commands/info.ts';
import { mapCommand } from './commands/map.ts';
import { rebaseCommand } from './commands/rebase.ts';
import { resizeCommand } from './commands/resize.ts';
import { snapshotCommand } from './commands/snapshot.ts';
import type { Tool, ToolCommand } from './tool.ts';
import { errorText, ToolError, usageError } from './tool-error.ts';

const commands: readonly ToolCommand[] = [
  bitmapCommand,
  checkCommand,
  compareCommand,
  convertCommand,
  createCommand,
  infoCommand,
  mapCommand,
  rebaseCommand,
  resizeCommand,
  snapshotCommand,
];

/** Total: what goes wrong is told on the error output. */
export async function runImageTool(words: readonly string[], tool: Tool): Promise<number> {
  const [name, ...rest] = words;
  if (name === '-h' || name === '--help') {
    tool.out(help());
    return 0;
  }
  try {
    const command = commands.find(one => one.name === name);
    if (command === undefined)
      throw usageError(name === undefined ? 'Not enough arguments' : `Command not found: ${name}`);
    const line = parseCommandLine(protectSize(name!, rest), command.options);
    if (line.has('h')) {
      tool.out(help());
      return 0;
    }
    assertSupported(line);
    return await command.run(line, tool);
  } catch (error) {
    tool.err(`tidemark-image: ${errorText(error)}\n`);
    return error instanceof ToolError ? error.exitCode : 1;
  }
}

/** The last word of `resize` is a size, also where it starts with a minus. */
function protectSize(name: string, words: readonly string[]): string[] {
  const last = words.at(-1) ?? '';
  return name === 'resize' && /^-\d/.test(last) && !words.includes('--')
    ? [...words.slice(0, -1), '--', last]
    : [...words];
}

function assertSupported(line: CommandLine): void {
  for (const name of ['object', 'image-opts']) {
    if (line.has(name))
      throw new ToolError(`Option --${name} is not supported: give the path of an image file`);
  }
}

function help(): string {
  const lines = commands.map(({ name, synopsis }) => `  ${name} ${synopsis}\n`);
  return `usage: tidemark-image command [command options]\nDisk image utility\n\nCommand syntax:\n${lines.join('')}`;
}
