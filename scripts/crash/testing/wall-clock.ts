// A wall clock for the services of a stack that can be set while they run, as an operator or a time service sets the
// one of a host: libfaketime adds a number of seconds, which is read from a file each time, to every look at it. The
// monotonic clock, by which timers and waits count, goes on as it is.
import { chmodSync, existsSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Where Debian has it: one library, or one for programs with threads. */
const LIBRARIES = ['x86_64-linux-gnu', 'aarch64-linux-gnu'].map(
  machine => `/usr/lib/${machine}/faketime/libfaketimeMT.so.1`,
);

/** Where the library keeps what it shares with the children of a process, under its id. */
const SHARED_MEMORY = '/dev/shm';

/** Undefined when the clock can be set here. */
export function whyNoWallClock(): string | undefined {
  return LIBRARIES.some(path => existsSync(path)) ? undefined : 'libfaketime is not installed';
}

export class WallClock {
  readonly #folder = mkdtempSync(join(tmpdir(), 'tidemark-clock-'));
  readonly #file = join(this.#folder, 'offset');
  #aheadSeconds = 0;

  constructor() {
    // PostgreSQL runs as another user.
    chmodSync(this.#folder, 0o755);
    this.set(0);
  }

  /** How many seconds it is ahead of the machine's clock. */
  get aheadSeconds(): number {
    return this.#aheadSeconds;
  }

  /** By now, in milliseconds since 1970. */
  nowMs(): number {
    return Date.now() + this.#aheadSeconds * 1_000;
  }

  /** At once, for all who run with `environment`; negative: behind the machine's. */
  set(aheadSeconds: number): void {
    this.#aheadSeconds = aheadSeconds;
    const next = `${this.#file}.next`;
    writeFileSync(next, `${aheadSeconds < 0 ? '-' : '+'}${Math.abs(aheadSeconds)}\n`, { mode: 0o644 });
    renameSync(next, this.#file);
  }

  /** Of a process that is to live by it. */
  environment(): NodeJS.ProcessEnv {
    return {
      LD_PRELOAD: LIBRARIES.find(path => existsSync(path)),
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      // Files keep the moments that the kernel gave them.
      NO_FAKE_STAT: '1',
    };
  }

  /** Its users have to have ended. What those of them left that were killed goes as well. */
  close(): void {
    rmSync(this.#folder, { recursive: true, force: true });
    for (const name of readdirSync(SHARED_MEMORY)) {
      const pid = /^(?:faketime_shm|sem\.faketime_sem)_(\d+)$/.exec(name)?.[1];
      if (pid !== undefined && !existsSync(`/proc/${pid}`))
        rmSync(join(SHARED_MEMORY, name), { force: true });
    }
  }
}
