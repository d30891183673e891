// The lock on a state directory: one storage node process at a time. Lock files are numbered and the
// highest number counts, so that taking over a dead process's lock is one exclusive link() of the next
// number: of two processes that try at once exactly one succeeds.
import { randomBytes } from 'node:crypto';
import { link, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';

const LOCK_NAME = /^lock\.(\d{1,15})$/;
/** Each round means that somebody else moved the lock on in between; more than a few never happen. */
const ROUNDS_MAX = 16;

const ownerSchema = z.object({
  pid: z.int().positive(),
  /** In clock ticks since boot, from /proc: tells a process from a later one with its number. */
  startTicks: z.string(),
  bootId: z.string(),
  released: z.boolean(),
});
type Owner = z.infer<typeof ownerSchema>;

/** The state directory belongs to a living process. */
export class StateLockedError extends Error {
  readonly pid: number;

  constructor(folder: string, pid: number) {
    super(
      `State directory ${folder} is in use by the storage node with process id ${pid}. ` +
        'Stop that process, or set TIDEMARK_STATE_DIR to another folder.',
    );
    this.name = 'StateLockedError';
    this.pid = pid;
  }
}

export class StateLock {
  readonly #folder: string;
  readonly #file: string;
  readonly #owner: Owner;

  private constructor(folder: string, file: string, owner: Owner) {
    this.#folder = folder;
    this.#file = file;
    this.#owner = owner;
  }

  /**
   * Takes the lock, from a dead or finished owner where there was one. Throws `StateLockedError` while
   * the owner lives. The folder must exist.
   */
  static async acquire(folder: string): Promise<StateLock> {
    const owner: Owner = { pid: process.pid, ...(await ownProcess()), released: false };
    const temporary = temporaryPath(folder);
    await writeWhole(temporary, owner);
    try {
      for (let round = 0; round < ROUNDS_MAX; round++) {
        const number = await tryNext(folder, temporary);
        if (number !== undefined) return new StateLock(folder, join(folder, `lock.${number}`), owner);
      }
    } finally {
      await rm(temporary, { force: true });
    }
    throw new Error(`The lock of state directory ${folder} changes hands all the time; try again.`);
  }

  /** Lets another process have the directory. The file stays: its number must never be given again. */
  async release(): Promise<void> {
    const temporary = temporaryPath(this.#folder);
    await writeWhole(temporary, { ...this.#owner, released: true });
    await rename(temporary, this.#file);
  }
}

/** The number that is ours now, or undefined when somebody else was faster and the caller looks again. */
async function tryNext(folder: string, temporary: string): Promise<number | undefined> {
  const newest = (await lockNumbers(folder)).at(-1) ?? 0;
  if (newest > 0) {
    const owner = await readOwner(join(folder, `lock.${newest}`));
    if (owner !== undefined && (await isAlive(owner))) throw new StateLockedError(folder, owner.pid);
  }
  const mine = newest + 1;
  try {
    await link(temporary, join(folder, `lock.${mine}`));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return undefined;
    throw error;
  }
  const numbers = await lockNumbers(folder);
  if (numbers.at(-1) !== mine) {
    // The number was free only because its owner had come and gone: a newer one rules.
    await rm(join(folder, `lock.${mine}`), { force: true });
    return undefined;
  }
  for (const older of numbers.slice(0, -1)) await rm(join(folder, `lock.${older}`), { force: true });
  return mine;
}

async function lockNumbers(folder: string): Promise<number[]> {
  const numbers = (await readdir(folder)).flatMap(name => {
    const digits = LOCK_NAME.exec(name)?.[1];
    return digits === undefined ? [] : [Number(digits)];
  });
  return numbers.sort((a, b) => a - b);
}

/** Undefined for a file that vanished, or that a crash of the machine left without content. */
async function readOwner(path: string): Promise<Owner | undefined> {
  try {
    const parsed = ownerSchema.safeParse(JSON.parse(await readFile(path, 'utf8')));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

async function isAlive(owner: Owner): Promise<boolean> {
  if (owner.released || owner.bootId !== (await bootId())) return false;
  return (await startTicks(owner.pid)) === owner.startTicks;
}

async function ownProcess(): Promise<{ startTicks: string; bootId: string }> {
  const ticks = await startTicks(process.pid);
  if (ticks === undefined) throw new Error('The storage node needs /proc to guard its state directory.');
  return { startTicks: ticks, bootId: await bootId() };
}

async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

/** Field 22 of /proc/PID/stat (proc_pid_stat(5)); undefined where there is no such process or a zombie. */
async function startTicks(pid: number): Promise<string | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'latin1');
    // The second field is the program's name in brackets and may hold spaces: count from its end.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function temporaryPath(folder: string): string {
  return join(folder, `.lock.${randomBytes(6).toString('hex')}.tmp`);
}

async function writeWhole(path: string, owner: Owner): Promise<void> {
  const handle = await open(path, 'w', 0o600);
  try {
    await handle.writeFile(`${JSON.stringify(owner)}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
}
