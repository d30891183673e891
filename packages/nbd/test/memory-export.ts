// An export in memory whose requests can be made to complete later, fail, or wait for a signal.
import { type NbdExport, type Pending, STATE, type StatusExtent } from '../src/index.ts';

export interface MemoryExportOptions extends Partial<Omit<NbdExport, 'sizeBytes'>> {
  sizeBytes?: number;
  /** Every request returns a promise. */
  later?: boolean;
}

const BLOCK_BYTES = 4096;

export class MemoryExport implements NbdExport {
  readonly name: string;
  readonly description?: string;
  readonly listed: boolean;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly multiConn: boolean;
  readonly minBlockBytes: number;
  readonly preferredBlockBytes: number;
  readonly maxBlockBytes: number;
  readonly fastZero: boolean;
  readonly contexts: readonly string[];
  readonly bytes: Buffer;
  /** Names and ranges of calls, newest last. */
  readonly calls: string[] = [];
  /** Awaited by each request while set; makes every request a waiting one. */
  gate: Promise<void> | undefined;
  /** Thrown (or rejected with) by each request while set. */
  fault: unknown;
  #written: Uint8Array;
  readonly #later: boolean;

  constructor(options: MemoryExportOptions = {}) {
    this.name = options.name ?? 'disk';
    if (options.description !== undefined) this.description = options.description;
    this.listed = options.listed ?? true;
    this.sizeBytes = options.sizeBytes ?? 1024 * 1024;
    this.readOnly = options.readOnly ?? false;
    this.multiConn = options.multiConn ?? true;
    this.minBlockBytes = options.minBlockBytes ?? 1;
    this.preferredBlockBytes = options.preferredBlockBytes ?? 4096;
    this.maxBlockBytes = options.maxBlockBytes ?? 32 * 1024 * 1024;
    this.fastZero = options.fastZero ?? false;
    this.contexts = options.contexts ?? ['base:allocation', 'qemu:dirty-bitmap:monday'];
    this.bytes = Buffer.alloc(this.sizeBytes);
    this.#written = new Uint8Array(Math.ceil(this.sizeBytes / BLOCK_BYTES));
    this.#later = options.later ?? false;
  }

  read(offset: number, buffer: Buffer): Pending {
    return this.#run(`read ${offset} ${buffer.byteLength}`, () => {
      this.bytes.copy(buffer, 0, offset, offset + buffer.byteLength);
    });
  }

  write(offset: number, buffer: Buffer, fua: boolean): Pending {
    return this.#run(`write ${offset} ${buffer.byteLength}${fua ? ' fua' : ''}`, () => {
      buffer.copy(this.bytes, offset);
      this.#mark(offset, buffer.byteLength, 1);
    });
  }

  writeZeroes(offset: number, length: number, options: { mayUnmap: boolean; fua: boolean }): Pending {
    return this.#run(`zero ${offset} ${length}${options.mayUnmap ? ' unmap' : ''}`, () => {
      this.bytes.fill(0, offset, offset + length);
      if (options.mayUnmap && offset % BLOCK_BYTES === 0 && length % BLOCK_BYTES === 0) {
        this.#mark(offset, length, 0);
      }
    });
  }

  trim(offset: number, length: number, fua: boolean): Pending {
    return this.#run(`trim ${offset} ${length}${fua ? ' fua' : ''}`, () => undefined);
  }

  flush(): Pending {
    return this.#run('flush', () => undefined);
  }

  cache(offset: number, length: number): Pending {
    return this.#run(`cache ${offset} ${length}`, () => undefined);
  }

  blockStatus(context: string, offset: number, length: number): StatusExtent[] | Promise<StatusExtent[]> {
    this.calls.push(`status ${context} ${offset} ${length}`);
    if (this.fault !== undefined) throw this.fault;
    const extents: StatusExtent[] = [];
    for (let at = offset; at < offset + length; ) {
      const end = Math.min((Math.floor(at / BLOCK_BYTES) + 1) * BLOCK_BYTES, offset + length);
      const written = this.#written[Math.floor(at / BLOCK_BYTES)] === 1;
      const allocation = written ? 0 : STATE.HOLE | STATE.ZERO;
      extents.push({ length: end - at, flags: context === 'base:allocation' ? allocation : Number(written) });
      at = end;
    }
    return this.#later ? Promise.resolve(extents) : extents;
  }

  #mark(offset: number, length: number, value: number): void {
    const first = Math.floor(offset / BLOCK_BYTES);
    this.#written.fill(value, first, Math.ceil((offset + length) / BLOCK_BYTES));
  }

  #run(call: string, effect: () => void): Pending {
    this.calls.push(call);
    const act = (): void => {
      if (this.fault !== undefined) throw this.fault;
      effect();
    };
    if (this.gate === undefined && !this.#later) {
      act();
      return undefined;
    }
    return (this.gate ?? new Promise<void>(resolve => setImmediate(resolve))).then(act);
  }
}
