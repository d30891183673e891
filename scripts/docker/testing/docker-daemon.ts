// A Docker daemon to test with: the one that answers, else a private one, which keeps all it has in a temporary folder
// and touches neither the machine's bridges nor its packet filter, and is gone when it is stopped.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

/** Generous: the first start on a slow disk. */
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 60_000;
const OUTPUT_CHARACTERS_MAX = 20_000;

export interface RunOptions {
  readonly input?: Readable;
  readonly cwd?: string;
  readonly environment?: Record<string, string>;
}

export class Docker {
  /** What `DOCKER_HOST` is set to. */
  readonly host: string;
  /** Started by us, and without images. */
  readonly isOurs: boolean;

  constructor(host: string, isOurs: boolean) {
    this.host = host;
    this.isOurs = isOurs;
  }

  async succeeds(...args: string[]): Promise<boolean> {
    return this.run(args).then(
      () => true,
      () => false,
    );
  }

  /** What `docker` writes to its standard output. Rejects with all it wrote when it fails. */
  run(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return this.runProgram('docker', args, options);
  }

  async runProgram(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, DOCKER_HOST: this.host, ...options.environment },
      stdio: [options.input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    });
    if (options.input && child.stdin) {
      child.stdin.on('error', () => {}); // it ended before reading: its exit code says why
      options.input.pipe(child.stdin);
    }
    let output = '';
    let all = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        if (stream === child.stdout) output += text;
        all = (all + text).slice(-OUTPUT_CHARACTERS_MAX);
      });
    }
    const [code, signal] = await once(child, 'close');
    if (code !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${signal ?? code}:\n${all}`);
    return output;
  }
}

/** Why there can be no daemon here, or undefined. */
export function dockerIsMissing(): string | undefined {
  if (!answers('docker', ['--version'])) return 'docker is not installed';
  if (daemonAnswers(process.env.DOCKER_HOST)) return undefined;
  if (!answers('dockerd', ['--version'])) return 'no Docker daemon answers';
  if (process.getuid?.() !== 0) return 'no Docker daemon answers, and only root can start one';
  return undefined;
}

/** The daemon and how to let go of it. */
export async function openDocker(): Promise<{ docker: Docker; close(): Promise<void> }> {
  const host = process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock';
  if (daemonAnswers(host)) return { docker: new Docker(host, false), close: async () => {} };
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-docker-'));
  const daemon = launch(folder);
  const docker = new Docker(`unix://${join(folder, 'docker.sock')}`, true);
  const close = async () => {
    await stop(daemon);
    unmountBelow(folder);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await untilReady(docker, daemon, join(folder, 'log'));
  } catch (error) {
    await close();
    throw error;
  }
  return { docker, close };
}

function launch(folder: string): ChildProcess {
  const at = (name: string) => join(folder, name);
  const settings = ['--data-root', at('data'), '--exec-root', at('run'), '--pidfile', at('pid')];
  // Published ports go through its proxies and containers meet on networks of their own: the machine's packet filter
  // stays as it is, and several such daemons do not meet.
  const network = ['--bridge', 'none', '--iptables=false', '--ip6tables=false'];
  const script = `exec dockerd "$@" >${at('log')} 2>&1`;
  const args = ['-H', `unix://${at('docker.sock')}`, ...settings, ...network];
  // It ends with us, whatever becomes of us.
  return spawn('setpriv', ['--pdeathsig', 'TERM', 'sh', '-c', script, 'sh', ...args], {
    stdio: 'ignore',
    detached: true,
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
}

async function untilReady(docker: Docker, daemon: ChildProcess, log: string): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!daemonAnswers(docker.host)) {
    if (daemon.exitCode === null && performance.now() < deadline) await delay(200);
    else
      throw new Error(
        `dockerd did not start:\n${existsSync(log) ? readFileSync(log, 'utf8').slice(-4_000) : ''}`,
      );
  }
}

/** It stops its containers first. */
async function stop(daemon: ChildProcess): Promise<void> {
  if (daemon.exitCode !== null || daemon.signalCode !== null) return;
  const ended = once(daemon, 'exit');
  daemon.kill('SIGTERM');
  const timer = setTimeout(() => daemon.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await ended;
  clearTimeout(timer);
}

/** It leaves the name of the machine's network namespace mounted. */
function unmountBelow(folder: string): void {
  const places = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[1] ?? '')
    .filter(place => place.startsWith(`${folder}/`));
  for (const place of places.reverse()) spawnSync('umount', [place], { stdio: 'ignore' });
}

/** Whether the daemon at that address, or at the usual one, takes orders. */
export function daemonAnswers(host: string | undefined): boolean {
  const environment = host === undefined ? process.env : { ...process.env, DOCKER_HOST: host };
  return answers('docker', ['version', '--format', '{{.Server.Version}}'], environment);
}

function answers(program: string, args: string[], environment = process.env): boolean {
  const env = { ...environment, PATH: `${environment.PATH}:/usr/sbin:/sbin` };
  return spawnSync(program, args, { stdio: 'ignore', env, timeout: 15_000 }).status === 0;
}
