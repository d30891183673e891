// How a scripted storage node says no.
import { type ErrorCode, TidemarkError } from '@tidemark/proto';

export const refuse = (code: ErrorCode, what: string) => new TidemarkError(code, `Scripted: ${what}`);
