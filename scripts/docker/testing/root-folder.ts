// The contents of a small image, put together from programs that this machine has: each with the libraries it is linked
// with, and busybox for everything around them.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Where current distributions keep these folders. */
const MERGED_FOLDERS = ['bin', 'sbin', 'lib', 'lib64'];
const LARGE_OUTPUT_BYTES = 16 * 2 ** 20;

export class RootFolder {
  readonly path: string;

  /** An empty folder. Afterwards a shell and its small tools are in it, and the users named, with ids from 999 on. */
  constructor(path: string, users: Record<string, number>) {
    this.path = path;
    for (const name of MERGED_FOLDERS) {
      mkdirSync(join(path, 'usr', name), { recursive: true });
      symlinkSync(join('usr', name), join(path, name));
    }
    for (const name of ['etc', 'root', 'usr/local/bin', 'var', 'run', 'home']) {
      mkdirSync(join(path, name), { recursive: true });
    }
    mkdirSync(join(path, 'tmp'), { mode: 0o1777 });
    const accounts = Object.entries({ root: 0, ...users });
    const home = (name: string) => (name === 'root' ? '/root' : '/tmp');
    this.write(
      'etc/passwd',
      lines(accounts.map(([name, id]) => `${name}:x:${id}:${id}::${home(name)}:/bin/sh`)),
    );
    this.write('etc/group', lines(accounts.map(([name, id]) => `${name}:x:${id}:`)));
    this.write('etc/nsswitch.conf', 'hosts: files dns\n');
    this.#addBusybox();
  }

  write(path: string, text: string, mode = 0o644): void {
    mkdirSync(dirname(join(this.path, path)), { recursive: true });
    writeFileSync(join(this.path, path), text, { mode });
  }

  /** That file or folder of ours, as it is, links followed no further than into it. */
  copy(source: string, path: string): void {
    mkdirSync(dirname(join(this.path, path)), { recursive: true });
    cpSync(source, join(this.path, path), { recursive: true, verbatimSymlinks: true, dereference: false });
  }

  /** A program of ours with the libraries it needs, which keep their paths. */
  addProgram(source: string, path: string): void {
    const real = realpathSync(source);
    this.copy(real, path);
    this.addLibraries(real);
  }

  /** What a program or a library is linked with, but for what lies in the folder `except`. */
  addLibraries(binary: string, except?: string): void {
    for (const library of librariesOf(binary)) {
      if (except !== undefined && library.startsWith(except)) continue;
      if (!existsSync(join(this.path, library))) this.copy(realpathSync(library), library);
    }
  }

  #addBusybox(): void {
    const busybox = programPath('busybox', 'busybox-static');
    this.copy(realpathSync(busybox), 'usr/bin/busybox');
    const tools = execFileSync(busybox, ['--list'], { encoding: 'utf8' }).split('\n');
    for (const tool of tools.filter(name => name !== '' && name !== 'busybox')) {
      symlinkSync('busybox', join(this.path, 'usr/bin', tool));
    }
  }
}

/** Absolute paths, as the loader resolves them. */
function librariesOf(binary: string): string[] {
  const output = execFileSync('ldd', [binary], { encoding: 'utf8', maxBuffer: LARGE_OUTPUT_BYTES });
  return output.split('\n').flatMap(line => /(?:=> |^\s*)(\/\S+) \(0x/.exec(line)?.[1] ?? []);
}

/** Throws when no folder of the PATH has it, naming the package to install. */
export function programPath(name: string, debianPackage: string): string {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  const found = folders.map(folder => join(folder, name)).find(path => existsSync(path));
  if (found === undefined) throw new Error(`${name} is not installed: apt-get install ${debianPackage}`);
  return found;
}

const lines = (list: readonly string[]): string => `${list.join('\n')}\n`;
