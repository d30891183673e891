// Does what the command line says, option by option in its order, as qemu-storage-daemon(1) does.
import { EngineError } from '@tidemark/engine';
import { z } from 'zod';
import { openBlockNode } from '../blockdev/open-block-node.ts';
import { blockdevOptions } from '../blockdev/options.ts';
import { parseChardev } from './chardev.ts';
import type { QmpCommand } from './command.ts';
import { CommandLineError, type Option } from './command-line.ts';
import { addExport, blockExportOptions, nbdServerOptions, startNbdServer } from './commands/exports.ts';
import { addObject, objectOptions } from './commands/objects.ts';
import { MonitorServer } from './monitor-server.ts';
import { parseOptionValue } from './option-values.ts';
import { PidFile } from './pid-file.ts';
import { genericError } from './qmp-error.ts';
import { listenError } from './socket-address.ts';
import type { StorageDaemon } from './storage-daemon.ts';

/** QAPI `MonitorOptions`. */
const monitorOptions = z.strictObject({
  id: z.string().optional(),
  mode: z.enum(['readline', 'control']).optional(),
  pretty: z.boolean().optional(),
  chardev: z.string(),
});

export class Startup {
  readonly #daemon: StorageDaemon;
  readonly #commands: ReadonlyMap<string, QmpCommand>;
  readonly #chardevs = new Map<string, MonitorServer>();
  readonly #monitors: (() => void)[] = [];
  readonly #used = new Set<MonitorServer>();
  #pidFilePath: string | undefined;
  #pidFile: PidFile | undefined;

  constructor(options: { daemon: StorageDaemon; commands: ReadonlyMap<string, QmpCommand> }) {
    this.#daemon = options.daemon;
    this.#commands = options.commands;
  }

  /**
   * Afterwards clients are served. Rejects with a `CommandLineError` at the first option that cannot be; what
   * has been done until then is undone by closing the daemon and `close`.
   */
  async run(options: readonly Option[]): Promise<void> {
    for (const option of options) {
      try {
        await this.#apply(option);
      } catch (error) {
        throw new CommandLineError(`${option.text}: ${describe(error)}`, { cause: error });
      }
    }
    if (this.#pidFilePath !== undefined) {
      this.#pidFile = await PidFile.create(this.#pidFilePath, process.pid);
    }
    for (const serve of this.#monitors) serve();
  }

  /** To be called last, so that clients hear what everything else said at its end. */
  async close(): Promise<void> {
    for (const chardev of this.#chardevs.values()) await chardev.close();
    await this.#pidFile?.remove();
  }

  async #apply({ name, value }: Option): Promise<void> {
    const daemon = this.#daemon;
    switch (name) {
      case 'blockdev':
        await openBlockNode(parseOptionValue(blockdevOptions, value, 'driver'), daemon);
        return;
      case 'chardev':
        return this.#addChardev(value);
      case 'export':
        return addExport(parseOptionValue(blockExportOptions, value, 'type'), daemon);
      case 'monitor':
        return this.#addMonitor(parseOptionValue(monitorOptions, value, 'chardev'));
      case 'nbd-server':
        return startNbdServer(parseOptionValue(nbdServerOptions, value), daemon);
      case 'object':
        return addObject(parseOptionValue(objectOptions, value, 'qom-type'), daemon);
      case 'pidfile':
        this.#pidFilePath = value;
    }
  }

  async #addChardev(text: string): Promise<void> {
    const { id, listen } = parseChardev(text);
    if (this.#chardevs.has(id)) throw genericError(`chardev: id "${id}" is in use already`);
    const server = new MonitorServer({ daemon: this.#daemon, commands: this.#commands });
    try {
      await server.listen(listen);
    } catch (error) {
      throw 'path' in listen ? listenError({ type: 'unix', path: listen.path }, error) : error;
    }
    this.#chardevs.set(id, server);
  }

  #addMonitor({ chardev, mode, pretty = false }: z.output<typeof monitorOptions>): void {
    const server = this.#chardevs.get(chardev);
    if (server === undefined) throw genericError(`chardev "${chardev}" not found`);
    if (mode === 'readline') throw genericError('Only QMP is supported');
    if (this.#used.has(server)) throw genericError(`Device '${chardev}' is in use`);
    this.#used.add(server);
    this.#monitors.push(() => server.serve({ pretty }));
  }
}

/** The text and, on a line of its own, what to do next. */
function describe(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const hint = error instanceof EngineError ? error.context.hint : undefined;
  return hint === undefined ? message : `${message}\n${hint}`;
}
