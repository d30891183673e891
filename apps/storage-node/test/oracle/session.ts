// One side's run of a scenario: QMP commands, guest I/O and looks at images, all written into a trace.
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Daemon, type DaemonOptions, type Side } from './daemon.ts';
import { eventsBySubject, isWorkBitmap, normalise } from './normalise.ts';
import { QemuIo } from './qemu-io.ts';
import type { QmpEventMessage, QmpReply } from './qmp-client.ts';

const run = promisify(execFile);
const TOOL_TIMEOUT_MS = 60_000;

export interface ImageOptions {
  readonly format: 'raw' | 'qcow2';
  /** As qemu-img takes it, such as `64M`. */
  readonly size?: string | number;
  /** For `-o`, such as `cluster_size=4k`. */
  readonly options?: string;
  /** Name of another image of this scenario. */
  readonly backing?: string;
  readonly backingFormat?: string;
}

export interface BitmapFacts {
  readonly name?: string;
  readonly granularity: number;
  readonly count: number;
  readonly recording: boolean;
  readonly busy: boolean;
  readonly persistent: boolean;
  readonly inconsistent?: boolean;
}

export interface Trace {
  readonly steps: unknown;
  readonly events: unknown;
}

interface Guest {
  readonly io: QemuIo;
  readonly exportId: string;
}

export class Session {
  readonly side: Side;
  readonly folder: string;
  daemon!: Daemon;
  readonly #options: DaemonOptions;
  readonly #steps: unknown[] = [];
  readonly #guests = new Map<string, Guest>();
  readonly #chanceJobs = new Set<string>();
  #nbdSocket: string | undefined;

  constructor(options: DaemonOptions) {
    this.#options = options;
    this.side = options.side;
    this.folder = options.folder;
  }

  async start(): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    this.daemon = await Daemon.start(this.#options);
  }

  /** The path of an image of this side. */
  path(name: string): string {
    return join(this.folder, name);
  }

  /** Adds a fact to the trace. */
  note(what: string, value: unknown): void {
    this.#steps.push({ [what]: value });
  }

  // QMP

  /** Traced, whatever the answer. */
  async qmp(command: string, args?: object): Promise<QmpReply> {
    const { return: result, error } = await this.daemon.qmp.execute(command, args);
    const reply = error === undefined ? { return: result } : { error };
    this.#steps.push({ execute: command, arguments: args ?? {}, ...reply });
    return reply;
  }

  /** Traced; an error fails the scenario. */
  async ok<Result = unknown>(command: string, args?: object): Promise<Result> {
    const reply = await this.qmp(command, args);
    if (reply.error !== undefined) throw this.#unexpected(command, args, reply);
    return reply.return as Result;
  }

  /** Traced; success fails the scenario. Returns the error. */
  async refused(command: string, args?: object): Promise<{ class: string; desc: string }> {
    const reply = await this.qmp(command, args);
    if (reply.error === undefined) throw this.#unexpected(command, args, reply);
    return reply.error;
  }

  /** Not traced: for what is only looked at. An error fails the scenario. */
  async ask<Result = unknown>(command: string, args?: object): Promise<Result> {
    const reply = await this.daemon.qmp.execute(command, args);
    if (reply.error !== undefined) throw this.#unexpected(command, args, reply);
    return reply.return as Result;
  }

  add(options: object): Promise<unknown> {
    return this.ok('blockdev-add', options);
  }

  /** The next event of that name whose data has these members; earlier ones are passed over. */
  event(name: string, members: Record<string, unknown> = {}): Promise<QmpEventMessage> {
    const entries = Object.entries(members);
    return this.daemon.qmp.nextEvent(`${name} ${JSON.stringify(members)}`, ({ event, data }) => {
      return event === name && entries.every(([key, value]) => data?.[key] === value);
    });
  }

  /** The next event that is wanted; earlier ones are passed over. */
  anyEvent(wanted: (event: QmpEventMessage) => boolean): Promise<QmpEventMessage> {
    return this.daemon.qmp.nextEvent('event', wanted);
  }

  /** Waits until the job says that it is in that state. */
  jobState(id: string, status: string): Promise<QmpEventMessage> {
    return this.event('JOB_STATUS_CHANGE', { id, status });
  }

  /** How much this job copies is not compared: it depends on how a guest's writes fell. */
  copiesByChance(id: string): void {
    this.#chanceJobs.add(id);
  }

  /** Polls until it holds; for states that no event announces. */
  async until(what: string, holds: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + TOOL_TIMEOUT_MS;
    while (!(await holds())) {
      if (performance.now() > deadline) throw new Error(`${this.side}: ${what} did not come about`);
      await new Promise(resolve => setTimeout(resolve, 20));
    }
  }

  /** The node's dirty bitmaps, sorted by name; traced. */
  async bitmaps(node: string): Promise<BitmapFacts[]> {
    const nodes =
      await this.ask<{ 'node-name': string; 'dirty-bitmaps'?: BitmapFacts[] }[]>('query-named-block-nodes');
    const found = nodes.find(one => one['node-name'] === node)?.['dirty-bitmaps'] ?? [];
    const listed = found.filter(bitmap => !isWorkBitmap(bitmap));
    const sorted = listed.toSorted((a, b) => (a.name ?? '').localeCompare(b.name ?? ''));
    this.note(`bitmaps of ${node}`, sorted);
    return sorted;
  }

  /** One bitmap by name, traced; fails where it is missing. */
  async bitmap(node: string, name: string): Promise<BitmapFacts> {
    const found = (await this.bitmaps(node)).find(one => one.name === name);
    if (found === undefined) throw new Error(`${this.side}: no bitmap '${name}' on '${node}'`);
    return found;
  }

  // Guests

  /** Runs qemu-io commands on the node through a writable export, which the first call makes. Traced. */
  async io(node: string, ...commands: string[]): Promise<string> {
    const guest = await this.guest(node);
    let output = '';
    for (const command of commands) output += `${await guest.run(command)}\n`;
    this.note(`io ${node}: ${commands.join('; ')}`, output);
    return output;
  }

  /** The qemu-io process of the node's guest, for requests that are to run meanwhile. */
  async guest(node: string): Promise<QemuIo> {
    const known = this.#guests.get(node);
    if (known !== undefined) return known.io;
    const exportId = `guest-${node}`;
    const socket = await this.nbdSocket();
    await this.ask('block-export-add', {
      type: 'nbd',
      id: exportId,
      'node-name': node,
      name: exportId,
      writable: true,
    });
    const io = await QemuIo.open(`nbd+unix:///${exportId}?socket=${socket}`);
    this.#guests.set(node, { io, exportId });
    return io;
  }

  /** Takes the guest of the node away, and its export. */
  async closeGuest(node: string): Promise<void> {
    const guest = this.#guests.get(node);
    if (guest === undefined) return;
    this.#guests.delete(node);
    await guest.io.close();
    await this.ask('block-export-del', { id: guest.exportId, mode: 'hard' });
    await this.event('BLOCK_EXPORT_DELETED', { id: guest.exportId });
  }

  /** Runs qemu-io commands on an export that is there already, in a process of their own. Traced. */
  async readExport(exportName: string, ...commands: string[]): Promise<string> {
    const readOnly = commands.every(command => command.startsWith('read'));
    const io = await QemuIo.open(await this.nbdUri(exportName), { readOnly });
    try {
      let output = '';
      for (const command of commands) output += `${await io.run(command)}\n`;
      this.note(`io of export ${exportName}: ${commands.join('; ')}`, output);
      return output;
    } finally {
      await io.close();
    }
  }

  /** Where an image's file has data, as the file system says; traced. */
  async mapFile(name: string): Promise<void> {
    await this.tool('qemu-img', 'map', '-U', '-f', 'raw', '--output=json', this.path(name));
  }

  /** The socket of the NBD server, which the first call starts. */
  async nbdSocket(): Promise<string> {
    if (this.#nbdSocket === undefined) {
      this.#nbdSocket = this.path('nbd.sock');
      await this.ask('nbd-server-start', { addr: { type: 'unix', data: { path: this.#nbdSocket } } });
    }
    return this.#nbdSocket;
  }

  /** After it was stopped. */
  async restartNbdServer(): Promise<void> {
    this.#nbdSocket = undefined;
    await this.nbdSocket();
  }

  async nbdUri(exportName: string): Promise<string> {
    return `nbd+unix:///${exportName}?socket=${await this.nbdSocket()}`;
  }

  // Images

  async image(name: string, image: ImageOptions): Promise<string> {
    const args = ['create', '-q', '-f', image.format];
    if (image.options !== undefined) args.push('-o', image.options);
    if (image.backing !== undefined) {
      args.push('-b', this.path(image.backing), '-F', image.backingFormat ?? 'qcow2');
    }
    args.push(this.path(name));
    if (image.size !== undefined) args.push(String(image.size));
    await run('qemu-img', args, { timeout: TOOL_TIMEOUT_MS });
    return this.path(name);
  }

  /** Runs a tool, which must succeed; not traced. */
  async peek(program: string, ...args: string[]): Promise<{ stdout: string; stderr: string }> {
    return run(program, args, { timeout: TOOL_TIMEOUT_MS });
  }

  /** Runs a tool; traced: exit code and output. */
  async tool(program: string, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const outcome = await run(program, args, { timeout: TOOL_TIMEOUT_MS }).then(
      ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
      (error: { code?: number; stdout?: string; stderr?: string }) => ({
        code: error.code ?? -1,
        stdout: error.stdout ?? '',
        stderr: error.stderr ?? String(error),
      }),
    );
    this.note(`${program} ${args.join(' ')}`, outcome);
    return outcome;
  }

  /** True where both images, which nobody may have open for writing, have the same contents. Traced. */
  async compare(
    one: string,
    other: string,
    formats: { one?: string; other?: string } = {},
  ): Promise<boolean> {
    const args = [
      'compare',
      '-U',
      '-f',
      formats.one ?? 'qcow2',
      '-F',
      formats.other ?? formats.one ?? 'qcow2',
    ];
    const { code } = await this.tool('qemu-img', ...args, this.path(one), this.path(other));
    if (code > 1) throw new Error(`${this.side}: qemu-img compare ${one} ${other} ended with ${code}`);
    return code === 0;
  }

  /** Block status of an export: `[offset, length, flags]` runs. Traced. */
  async map(exportName: string, context = 'base:allocation'): Promise<[number, number, number][]> {
    const uri = await this.nbdUri(exportName);
    const { stdout } = await run('nbdinfo', ['--json', `--map=${context}`, uri], {
      timeout: TOOL_TIMEOUT_MS,
    });
    const runs = JSON.parse(stdout) as { offset: number; length: number; type: number }[];
    const map = runs.map(({ offset, length, type }): [number, number, number] => [offset, length, type]);
    this.note(`map of ${exportName} ${context}`, map);
    return map;
  }

  // End

  get trace(): Trace {
    const options = { folder: this.folder };
    return {
      steps: normalise(this.#steps, options),
      events: normalise(eventsBySubject(this.daemon.qmp.events, { chanceJobs: this.#chanceJobs }), options),
    };
  }

  /** Ends everything; a daemon that does not quit in order fails the scenario. */
  async finish(): Promise<void> {
    for (const { io } of this.#guests.values()) await io.close();
    await this.daemon.quit();
  }

  async kill(): Promise<void> {
    for (const { io } of this.#guests.values()) io.kill();
    await this.daemon?.kill();
  }

  #unexpected(command: string, args: object | undefined, reply: QmpReply): Error {
    return new Error(`${this.side}: ${command} ${JSON.stringify(args ?? {})} → ${JSON.stringify(reply)}`);
  }
}
