// What a QMP client gets instead of a result: QEMU's error classes and the text.
import { EngineError } from '@tidemark/engine';
import { NbdServerError } from '@tidemark/nbd';

export type QmpErrorClass = 'GenericError' | 'CommandNotFound' | 'DeviceNotActive' | 'DeviceNotFound';

export class QmpError extends Error {
  readonly errorClass: QmpErrorClass;

  constructor(errorClass: QmpErrorClass, desc: string, cause?: unknown) {
    super(desc, cause === undefined ? undefined : { cause });
    this.name = 'QmpError';
    this.errorClass = errorClass;
  }
}

export function genericError(desc: string): QmpError {
  return new QmpError('GenericError', desc);
}

/** Total: anything thrown has a class and a text; hints are left out, since QMP has no place for them. */
export function toQmpError(error: unknown): QmpError {
  if (error instanceof QmpError) return error;
  if (error instanceof EngineError || error instanceof NbdServerError) {
    return new QmpError('GenericError', error.message, error);
  }
  return new QmpError('GenericError', error instanceof Error ? error.message : String(error), error);
}
