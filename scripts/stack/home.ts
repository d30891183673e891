// The folder that a stack lives in, and what it must remember: ports and the database password stay the same
// from start to start, or exports that guests know would move.

import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { freePort, isFree } from '../process/ports.mjs';

interface Remembered {
  databasePassword: string;
  /** Of the storage nodes of this stack and those who command them. */
  fleetSecret: string;
  /** `api`, `postgres`, `<storage node> control`, `<storage node> nbd`. */
  ports: Record<string, number>;
}

const newSecret = () => randomBytes(24).toString('base64url');

export class Home {
  readonly folder: string;
  readonly #remembered: Remembered;

  /** Makes the folder if there is none. Afterwards the database password is on disk. */
  constructor(folder: string) {
    this.folder = resolve(folder);
    mkdirSync(this.path('logs'), { recursive: true });
    this.#remembered = this.#read();
    this.#write();
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  get databasePassword(): string {
    return this.#remembered.databasePassword;
  }

  get fleetSecret(): string {
    return this.#remembered.fleetSecret;
  }

  /**
   * The port of an earlier start; else the preferred one if that is free, else any free one, remembered.
   * Rejects when a remembered port is taken: something else listens where guests expect their disk.
   * `isKnownElsewhere`: the catalog or guests know it too, so it cannot move.
   */
  async port(
    name: string,
    preferred: number | null,
    { isKnownElsewhere = false }: { isKnownElsewhere?: boolean } = {},
  ): Promise<number> {
    const { ports } = this.#remembered;
    const known = ports[name];
    if (known !== undefined) {
      if (await isFree(known)) return known;
      const move = `, or remove "${name}" from ${this.path('stack.json')} to move to another port`;
      throw new Error(
        `port ${known}, which this stack uses for ${name}, is taken by another program: stop that program` +
          (isKnownElsewhere ? '; the catalog and guests know it by this port' : move),
      );
    }
    const others = new Set(Object.values(ports));
    const usable = preferred !== null && !others.has(preferred) && (await isFree(preferred));
    let port = usable ? preferred : await freePort();
    while (others.has(port)) port = await freePort();
    ports[name] = port;
    this.#write();
    return port;
  }

  #read(): Remembered {
    const path = this.path('stack.json');
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return { databasePassword: newSecret(), fleetSecret: newSecret(), ports: {} };
    }
    try {
      // A stack of an earlier version has none yet.
      const { databasePassword, fleetSecret = newSecret(), ports } = JSON.parse(text) as Remembered;
      if (typeof databasePassword === 'string' && typeof ports === 'object')
        return { databasePassword, fleetSecret, ports };
    } catch {
      // reported below, like a file of another shape
    }
    throw new Error(`${path} is damaged: put it right, or choose another folder with TIDEMARK_HOME`);
  }

  #write(): void {
    const path = this.path('stack.json');
    writeFileSync(`${path}.new`, `${JSON.stringify(this.#remembered, null, 2)}\n`, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
}
