// What a command of the tool is, and what it may use.
import type { CommandLine, OptionTable } from './command-line.ts';

export interface ToolOutput {
  out(text: string): void;
  err(text: string): void;
}

export interface Tool extends ToolOutput {
  /** Since the epoch; for snapshots, which have a date. */
  readonly wallMs: () => number;
}

export interface ToolCommand {
  readonly name: string;
  /** As the list of commands shows it. */
  readonly synopsis: string;
  readonly options: OptionTable;
  /** Resolves with the exit code; rejects with a `ToolError`, or what the engine rejects with. */
  run(line: CommandLine, tool: Tool): Promise<number>;
}
