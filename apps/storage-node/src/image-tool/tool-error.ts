// Why the tool ends without having done what it was asked for.
import { EngineError } from '@tidemark/engine';
import { systemErrorText } from '../qmp/system-error-text.ts';

/** The message is what the user reads, without the tool's name. */
export class ToolError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode = 1) {
    super(message);
    this.name = 'ToolError';
    this.exitCode = exitCode;
  }
}

/** For a wrong command line. */
export function usageError(message: string): ToolError {
  return new ToolError(`${message}\nTry 'tidemark-image --help' for more information`);
}

/** The system's own words where the system refused, otherwise the error's. */
export function errorText(error: unknown): string {
  if (error instanceof EngineError && error.context.errno !== undefined) return systemErrorText(error);
  return error instanceof Error ? error.message : String(error);
}
