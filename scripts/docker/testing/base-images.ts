// Stand-ins for the public images that docker-compose.yml and the Dockerfile name, for machines that reach no container
// registry: the same programs, taken from npm and from Debian, under the same names.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { nativeFolder } from '../../postgres/binaries.mjs';
import type { Docker } from './docker-daemon.ts';
import { programPath, RootFolder } from './root-folder.ts';

/** The ids that the official images use. */
const POSTGRES_ID = 999;
const NODE_ID = 1000;

interface Image {
  /** Puts its contents together; returns what `docker import --change` is told. */
  make(folder: string): string[];
}

const IMAGES: Record<string, Image> = {
  'postgres:18': { make: makePostgres },
  'redis:7': { make: makeRedis },
  'node:24-bookworm-slim': { make: makeNode },
};

export type BaseImage = 'postgres:18' | 'redis:7' | 'node:24-bookworm-slim';

/**
 * Afterwards the daemon has these images. Those it has already, or can pull, stay what they are; the others are made
 * here. Returns the ones that were made.
 */
export async function provideImages(docker: Docker, names: readonly BaseImage[]): Promise<BaseImage[]> {
  const made: BaseImage[] = [];
  for (const name of names) {
    if (await docker.succeeds('image', 'inspect', name)) continue;
    if (!docker.isOurs && (await docker.succeeds('pull', '--quiet', name))) continue;
    await makeImage(docker, name);
    made.push(name);
  }
  return made;
}

async function makeImage(docker: Docker, name: BaseImage): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-image-'));
  try {
    const changes = IMAGES[name]!.make(folder).flatMap(change => ['--change', change]);
    const tar = spawn('tar', ['-C', folder, '--numeric-owner', '-c', '.'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(tar, 'close');
    await docker.run(['import', ...changes, '-', name], { input: tar.stdout });
    const [code] = await ended;
    if (code !== 0) throw new Error(`tar of ${folder} ended with code ${code}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function makePostgres(folder: string): string[] {
  const root = new RootFolder(folder, { postgres: POSTGRES_ID });
  const native = nativeFolder();
  root.copy(native, 'usr/lib/postgresql/18');
  const binaries = globSync([`${native}/bin/*`, `${native}/lib/*.so*`, `${native}/lib/postgresql/*.so`]);
  for (const binary of binaries) root.addLibraries(binary, native);
  root.addProgram(pgIsReady(), 'usr/local/bin/pg_isready');
  useOwnSetpriv(root);
  const entrypoint = readFileSync(join(import.meta.dirname, 'postgres-entrypoint.sh'), 'utf8');
  root.write('usr/local/bin/docker-entrypoint.sh', entrypoint, 0o755);
  return [
    'ENV PATH=/usr/local/bin:/usr/lib/postgresql/18/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'ENV PGDATA=/var/lib/postgresql/18/docker',
    'ENTRYPOINT ["docker-entrypoint.sh"]',
    'CMD ["postgres"]',
    'EXPOSE 5432',
    'VOLUME /var/lib/postgresql',
  ];
}

/** Debian's wrapper is a Perl script; the program itself lies elsewhere. */
function pgIsReady(): string {
  const [found] = globSync('/usr/lib/postgresql/*/bin/pg_isready');
  return found ?? programPath('pg_isready', 'postgresql-client-15');
}

/** Busybox's knows no user ids. */
function useOwnSetpriv(root: RootFolder): void {
  rmSync(join(root.path, 'usr/bin/setpriv'), { force: true });
  root.addProgram(programPath('setpriv', 'util-linux'), 'usr/bin/setpriv');
}

function makeRedis(folder: string): string[] {
  const root = new RootFolder(folder, {});
  for (const program of ['redis-server', 'redis-cli']) {
    root.addProgram(programPath(program, 'redis-server redis-tools'), `usr/local/bin/${program}`);
  }
  root.write('data/.keep', '');
  root.write('usr/local/bin/docker-entrypoint.sh', '#!/bin/sh\nexec "$@"\n', 0o755);
  return [
    'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'ENTRYPOINT ["docker-entrypoint.sh"]',
    // Other hosts may connect, as with the official image.
    'CMD ["redis-server", "--protected-mode", "no"]',
    'EXPOSE 6379',
    'WORKDIR /data',
  ];
}

function makeNode(folder: string): string[] {
  const root = new RootFolder(folder, { node: NODE_ID });
  root.addProgram(process.execPath, 'usr/local/bin/node');
  const npm = npmFolder();
  root.copy(npm, 'usr/local/lib/node_modules/npm');
  for (const name of ['npm', 'npx']) {
    symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(folder, 'usr/local/bin', name));
  }
  // What this machine trusts and how its npm is set up: without that no registry may be reached from the inside.
  const certificates = '/etc/ssl/certs/ca-certificates.crt';
  if (existsSync(certificates)) root.copy(certificates, certificates);
  root.write('usr/local/etc/npmrc', npmSettings(npm), 0o600);
  return ['ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'CMD ["node"]'];
}

/** The npm that called us, else the one on the PATH. */
function npmFolder(): string {
  const called = process.env.npm_execpath;
  const cli = called?.endsWith('npm-cli.js') ? called : resolve(programPath('npm', 'npm'));
  const real = execFileSync('readlink', ['-f', cli], { encoding: 'utf8' }).trim();
  return dirname(dirname(real));
}

function npmSettings(npm: string): string {
  const ask = (name: string) => {
    const cli = join(npm, 'bin', 'npm-cli.js');
    const answer = execFileSync(process.execPath, [cli, 'config', 'get', name], {
      encoding: 'utf8',
      cwd: '/',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
    return ['', 'null', 'undefined'].includes(answer) ? null : answer;
  };
  const user = ask('userconfig');
  const settings = user !== null && existsSync(user) ? [readFileSync(user, 'utf8')] : [];
  const registry = ask('registry');
  if (registry !== null) settings.push(`registry=${registry}`);
  settings.push('cafile=/etc/ssl/certs/ca-certificates.crt');
  return `${settings.join('\n')}\n`;
}
