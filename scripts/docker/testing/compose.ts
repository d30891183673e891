// The installation that docker-compose.yml describes, as a project of its own beside others: ports that are free,
// secrets and an image of its own. Compose 2 where the machine has it, else Compose 1.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { rootFolder } from '../../setup/find-node.mjs';
import type { Docker } from './docker-daemon.ts';

/** The services on a machine that is busy with other things. */
const READY_MS_MAX = 300_000;
const POLL_MS = 500;
const TRIES_MAX = 4;

interface ContainerState {
  readonly Status: string;
  readonly ExitCode: number;
  readonly Health?: { readonly Status: string };
}

export interface Container {
  readonly id: string;
  readonly service: string;
  readonly state: ContainerState;
}

export class ComposeProject {
  readonly name: string;
  readonly #docker: Docker;
  readonly #secrets: string;
  readonly #command: readonly [program: string, ...first: string[]];
  #isRemoved = false;

  private constructor(docker: Docker, name: string, command: readonly [string, ...string[]]) {
    this.#docker = docker;
    this.name = name;
    this.#command = command;
    this.#secrets = mkdtempSync(join(tmpdir(), 'tidemark-secrets-'));
  }

  /** With an image of that project. Nothing runs yet. */
  static async build(docker: Docker, name: string): Promise<ComposeProject> {
    const two = await docker.succeeds('compose', 'version');
    const project = new ComposeProject(docker, name, two ? ['docker', 'compose'] : ['docker-compose']);
    try {
      const script = join(rootFolder, 'scripts/docker/make-secrets.sh');
      execFileSync('sh', [script, project.#secrets], { stdio: 'ignore' });
      const proxies = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'].flatMap(proxy => ['--build-arg', proxy]);
      // A private daemon gives containers no way out of the machine but this one.
      await docker.run(['build', '--network', 'host', ...proxies, '--tag', project.#image, rootFolder]);
      return project;
    } catch (error) {
      rmSync(project.#secrets, { recursive: true, force: true });
      throw error;
    }
  }

  /** As the script made it. */
  secret(name: string): string {
    return readFileSync(join(this.#secrets, name), 'utf8');
  }

  /** Resolves when all that lasts is healthy and all that ends has ended well. Good to repeat. */
  async up(scale: Record<string, number> = {}): Promise<void> {
    const scales = Object.entries(scale).flatMap(([service, count]) => ['--scale', `${service}=${count}`]);
    for (let tries = 1; !(await this.#tryUp(scales, tries === TRIES_MAX)); tries++);
    const deadline = performance.now() + READY_MS_MAX;
    for (;;) {
      const containers = await this.containers();
      const waiting = containers.filter(({ state }) => !isReady(state));
      if (waiting.length === 0) return;
      const failed = waiting.find(({ state }) => state.Status === 'exited');
      if (failed || performance.now() > deadline) {
        const culprit = failed ?? waiting[0]!;
        const log = await this.compose('logs', '--tail', '40', culprit.service);
        throw new Error(`${culprit.service} is ${JSON.stringify(culprit.state)}:\n${log}`);
      }
      await delay(POLL_MS);
    }
  }

  /** A service that came too early on a busy machine is started again, but Compose has given up waiting by then. */
  async #tryUp(scales: readonly string[], isLast: boolean): Promise<boolean> {
    try {
      await this.compose('up', '--detach', '--no-build', ...scales);
      return true;
    } catch (error) {
      if (!isLast) return false;
      const log = await this.compose('logs', '--tail', '20').catch(String);
      throw new Error(`${(error as Error).message}\n${log}`);
    }
  }

  /** Where the service's port is reached from this machine, as host:port. */
  async address(service: string, port: number, index = 1): Promise<string> {
    return (await this.compose('port', `--index=${index}`, service, `${port}`)).trim();
  }

  compose(...args: string[]): Promise<string> {
    const [program, ...first] = this.#command;
    return this.#docker.runProgram(program, [...first, '--project-name', this.name, ...args], {
      cwd: rootFolder,
      environment: {
        TIDEMARK_IMAGE: this.#image,
        TIDEMARK_SECRETS: this.#secrets,
        TIDEMARK_API_PORT: '0',
        TIDEMARK_ALPHA_PORT: '0',
        TIDEMARK_BETA_PORT: '0',
      },
    });
  }

  async containers(): Promise<Container[]> {
    const ids = await this.#listed('ps', '--all');
    if (ids.length === 0) return [];
    const found = JSON.parse(await this.#docker.run(['inspect', ...ids])) as {
      Id: string;
      State: ContainerState;
      Config: { Labels: Record<string, string> };
    }[];
    return found.map(({ Id: id, State: state, Config: { Labels: labels } }) => ({
      id,
      service: labels['com.docker.compose.service'] ?? '',
      state,
    }));
  }

  /** Containers, volumes and networks go, with all that is in them, and the image. May be called again. */
  async remove(): Promise<void> {
    if (this.#isRemoved) return;
    this.#isRemoved = true;
    try {
      await this.compose('down', '--volumes', '--remove-orphans');
      await this.#docker.run(['image', 'rm', '--force', this.#image]);
    } finally {
      rmSync(this.#secrets, { recursive: true, force: true });
    }
  }

  /** Ids of what the daemon still has of the project. */
  async leftovers(): Promise<string[]> {
    const lists = [this.#listed('ps', '--all'), this.#listed('volume', 'ls'), this.#listed('network', 'ls')];
    return (await Promise.all(lists)).flat();
  }

  get #image(): string {
    return `tidemark:${this.name}`;
  }

  async #listed(...command: string[]): Promise<string[]> {
    const filter = ['--filter', `label=com.docker.compose.project=${this.name}`];
    return (await this.#docker.run([...command, '--quiet', ...filter])).split('\n').filter(Boolean);
  }
}

function isReady({ Status, ExitCode, Health }: ContainerState): boolean {
  if (Health !== undefined) return Status === 'running' && Health.Status === 'healthy';
  return Status === 'exited' && ExitCode === 0;
}
