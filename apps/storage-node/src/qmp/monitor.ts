// One client's conversation: greeting, capabilities, commands one after the other, events in between.
import type { Duplex } from 'node:stream';
import { parseArguments } from './arguments.ts';
import type { CommandSession, QmpCommand } from './command.ts';
import { type JsonInput, JsonStream } from './json-stream.ts';
import { QmpError, toQmpError } from './qmp-error.ts';
import type { QmpEvent, StorageDaemon } from './storage-daemon.ts';
import { qemuVersion } from './version.ts';

export interface MonitorOptions {
  readonly daemon: StorageDaemon;
  readonly commands: ReadonlyMap<string, QmpCommand>;
  readonly stream: Duplex;
  /** `\r\n`-terminated, indented answers. */
  readonly pretty?: boolean;
}

const MEMBERS = ['execute', 'arguments', 'id'];

export class Monitor implements CommandSession {
  readonly #options: MonitorOptions;
  readonly #input = new JsonStream();
  #negotiated = false;
  #queue: Promise<void> = Promise.resolve();
  #closeAfterReply = false;
  readonly #ended = Promise.withResolvers<void>();

  constructor(options: MonitorOptions) {
    this.#options = options;
  }

  /** Greets and serves; resolves when the client is gone and its last command has ended. */
  async serve(): Promise<void> {
    const { stream, daemon } = this.#options;
    const unsubscribe = daemon.subscribe(event => this.#tell(event));
    stream.on('error', () => stream.destroy());
    stream.on('close', () => this.#ended.resolve());
    stream.on('end', () => stream.end());
    stream.on('data', (bytes: Buffer) => this.#receive(bytes));
    this.#send({ QMP: { version: qemuVersion(daemon.version), capabilities: ['oob'] } });
    await this.#ended.promise;
    unsubscribe();
    await this.#queue;
  }

  closeAfterReply(): void {
    this.#closeAfterReply = true;
  }

  /** Answers one piece of input after the other; reading waits meanwhile, so that memory stays bounded. */
  #receive(bytes: Buffer): void {
    const { stream } = this.#options;
    const inputs = [...this.#input.feed(bytes)];
    if (inputs.length === 0) return;
    stream.pause();
    this.#queue = this.#queue.then(async () => {
      for (const input of inputs) await this.#answer(input);
      stream.resume();
    });
  }

  async #answer(input: JsonInput): Promise<void> {
    let id: unknown;
    try {
      if ('error' in input) throw new QmpError('GenericError', input.error);
      const request = asObject(input.value);
      id = request.id;
      const result = (await this.#execute(request)) ?? {};
      this.#send(id === undefined ? { return: result } : { return: result, id });
    } catch (cause) {
      const { errorClass, message } = toQmpError(cause);
      const error = { class: errorClass, desc: message };
      this.#send(id === undefined ? { error } : { id, error });
    }
    if (this.#closeAfterReply) this.#options.stream.end();
  }

  async #execute(request: Record<string, unknown>): Promise<unknown> {
    const command = this.#find(request);
    const args = parseArguments(command.arguments, request.arguments ?? {});
    return await command.run(args, this.#options.daemon, this);
  }

  #find(request: Record<string, unknown>): QmpCommand {
    const { execute } = request;
    const unknown = Object.keys(request).find(key => !MEMBERS.includes(key));
    if (unknown !== undefined) throw fault(`QMP input member '${unknown}' is unexpected`);
    if (execute === undefined) throw fault("QMP input lacks member 'execute'");
    if (typeof execute !== 'string') throw fault("QMP input member 'execute' must be a string");
    const { arguments: args } = request;
    if (args !== undefined && (typeof args !== 'object' || args === null || Array.isArray(args))) {
      throw fault("QMP input member 'arguments' must be an object");
    }
    if (execute === 'qmp_capabilities') return this.#negotiation();
    if (!this.#negotiated) {
      throw new QmpError('CommandNotFound', "Expecting capabilities negotiation with 'qmp_capabilities'");
    }
    const command = this.#options.commands.get(execute);
    if (command !== undefined) return command;
    throw new QmpError('CommandNotFound', `The command ${execute} has not been found`);
  }

  #negotiation(): QmpCommand {
    if (this.#negotiated) {
      const text = 'Capabilities negotiation is already complete, command ignored';
      throw new QmpError('CommandNotFound', text);
    }
    const command = this.#options.commands.get('qmp_capabilities')!;
    return {
      ...command,
      run: (args, daemon, session) => {
        const result = command.run(args, daemon, session);
        this.#negotiated = true;
        return result;
      },
    };
  }

  #tell({ event, data }: QmpEvent): void {
    if (!this.#negotiated) return;
    const now = this.#options.daemon.clock.wallMs();
    const timestamp = { seconds: Math.floor(now / 1000), microseconds: Math.floor((now % 1000) * 1000) };
    this.#send(data === undefined ? { timestamp, event } : { timestamp, event, data });
  }

  #send(message: object): void {
    const { stream, pretty } = this.#options;
    if (stream.writable)
      stream.write(`${JSON.stringify(message, null, pretty === true ? 4 : undefined)}\r\n`);
  }
}

function asObject(value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw fault('QMP input must be a JSON object');
}

function fault(desc: string): QmpError {
  return new QmpError('GenericError', desc);
}
