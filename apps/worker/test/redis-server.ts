// A Redis of our own: in a container where the suites run on containers, else a process, where the machine has one.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { testContainers } from '@tidemark/catalog/testing';
import {
  type ContainerPlace,
  labels,
  prepareTestcontainers,
  REDIS,
} from '../../../scripts/docker/testing/test-servers.ts';
import { freePort } from '../../../scripts/process/ports.mjs';

const redisIsInstalled = spawnSync('redis-server', ['--version'], { stdio: 'ignore' }).status === 0;

/** Why there can be none, or undefined. In continuous integration that is a failure. */
export function redisIsMissing(): string | undefined {
  if (redisIsInstalled || testContainers() !== null || process.env.CI !== undefined) return undefined;
  return 'redis-server is not installed';
}

const NOTHING_KEPT = ['--save', '', '--appendonly', 'no'];

export interface RedisServer {
  readonly url: string;
  /** Loses everything: nothing is on disk. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export async function startRedis(): Promise<RedisServer> {
  const place = testContainers();
  return place === null ? startProcess() : startContainer(place);
}

async function startContainer(place: ContainerPlace): Promise<RedisServer> {
  prepareTestcontainers(place);
  const { RedisContainer } = await import('@testcontainers/redis');
  // A port that it keeps when it starts again.
  const port = await freePort();
  const container = await new RedisContainer(REDIS)
    .withNetworkMode(place.network)
    .withLabels(labels(place))
    .withExposedPorts({ container: 6379, host: port })
    .withCommand(['redis-server', ...NOTHING_KEPT, '--protected-mode', 'no'])
    .start();
  return {
    url: `redis://127.0.0.1:${port}`,
    stop: async () => void (await container.stop()),
    restart: () => container.restart(),
  };
}

async function startProcess(): Promise<RedisServer> {
  const port = await freePort();
  let child = await launch(port);
  const stop = async () => {
    if (child.exitCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  return {
    url: `redis://127.0.0.1:${port}`,
    stop,
    restart: async () => {
      await stop();
      child = await launch(port);
    },
  };
}

async function launch(port: number) {
  const settings = ['--port', `${port}`, '--bind', '127.0.0.1', ...NOTHING_KEPT];
  const child = spawn('redis-server', settings, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  for await (const chunk of child.stdout) {
    output += chunk;
    if (output.includes('Ready to accept connections')) break;
  }
  child.stdout.resume();
  if (child.exitCode !== null) throw new Error(`redis-server ended: ${output}`);
  return child;
}
