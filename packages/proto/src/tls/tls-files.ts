// Certificate, key and CA of a service, out of files: checked when they are read, and read again when they have
// changed, since certificates are renewed. What is read again and unusable is told and leaves the former in use.
import { readFileSync } from 'node:fs';
import {
  authorityFaults,
  certificateFaults,
  type NamedFile,
  type Purpose,
  type TlsFault,
  type TlsMaterial,
  type TlsPaths,
} from './certificate-faults.ts';

export interface TlsFilesOptions {
  readonly paths: TlsPaths;
  /** What the certificate has to be good for. */
  readonly purpose: Purpose;
  /** The host that the others connect to, which the certificate has to name; undefined: not known here. */
  readonly host?: string | undefined;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

export class TlsFilesError extends Error {
  readonly faults: readonly TlsFault[];

  constructor(faults: readonly TlsFault[]) {
    super(faults.map(({ setting, message }) => `${setting} ${message}`).join('; '));
    this.name = 'TlsFilesError';
    this.faults = faults;
  }
}

/** How often a service looks for renewed files. Whoever renews a certificate has days for it. */
const RELOAD_MS = 30_000;

type Listener = (material: TlsMaterial) => void;

export class TlsFiles {
  readonly #options: TlsFilesOptions;
  readonly #listeners = new Set<Listener>();
  #material: TlsMaterial;

  /** Reads them. Throws `TlsFilesError`. */
  constructor(options: TlsFilesOptions) {
    this.#options = options;
    this.#material = read(options);
  }

  get material(): TlsMaterial {
    return this.#material;
  }

  /**
   * Reads the files again; true when something was new, which new connections use from now on. Those that are there
   * stay. Throws `TlsFilesError`; then what was in use stays in use.
   */
  reload(): boolean {
    const material = read(this.#options);
    if (isSame(material, this.#material)) return false;
    this.#material = material;
    for (const listener of this.#listeners) listener(material);
    return true;
  }

  /** Told of each change, until the function that is returned is called. */
  onChange(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /**
   * Reads again from time to time until the function that is returned is called; keeps no process alive. `report` is
   * told what has been renewed, and once of each new reason why it cannot be.
   */
  keepFresh(report: (outcome: { renewed: boolean; message: string }) => void): () => void {
    let told = '';
    const look = () => {
      try {
        if (this.reload()) report({ renewed: true, message: `${this.#options.paths.cert.path} was renewed` });
        told = '';
      } catch (error) {
        const { message } = error as Error;
        if (message !== told) report({ renewed: false, message });
        told = message;
      }
    };
    const timer = setInterval(look, RELOAD_MS).unref();
    return () => clearInterval(timer);
  }
}

/** Throws `TlsFilesError`. */
export function readCaFile(file: NamedFile, nowMs: number): Buffer {
  const faults: TlsFault[] = [];
  const ca = readNamed(file, faults);
  if (ca !== undefined) faults.push(...authorityFaults(ca, file, nowMs));
  if (faults.length > 0) throw new TlsFilesError(faults);
  return ca!;
}

function read(options: TlsFilesOptions): TlsMaterial {
  const { cert, key, ca } = options.paths;
  const faults: TlsFault[] = [];
  const [certPem, keyPem, caPem] = [cert, key, ca].map(file => file && readNamed(file, faults));
  if (faults.length === 0) {
    const material = { cert: certPem!, key: keyPem!, ca: caPem };
    faults.push(...certificateFaults(material, { ...options, nowMs: options.now() }));
    if (faults.length === 0) return material;
  }
  throw new TlsFilesError(faults);
}

function readNamed({ setting, path }: NamedFile, faults: TlsFault[]): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code;
    const step =
      reason === 'EACCES' ? "let the service's user read it, and the folders above" : 'check the path';
    faults.push({ setting, message: `names ${path}, which cannot be read (${reason}): ${step}` });
    return undefined;
  }
}

function isSame(one: TlsMaterial, other: TlsMaterial): boolean {
  const parts = ['cert', 'key', 'ca'] as const;
  return parts.every(part => String(one[part]) === String(other[part]));
}
