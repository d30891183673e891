// One client's conversation: greeting, capabilities, commands one after the other, events in between.
import type { Socket } from 'node:net';
import { MONITOR_OUTPUT_BYTES_MAX } from '../limits.ts';
import { parseArguments } from './arguments.ts';
import type { QmpCommand } from './command.ts';
import { type JsonInput, JsonStream, WholeDouble } from './json-stream.ts';
import { QmpError, toQmpError } from './qmp-error.ts';
import type { QmpEvent, StorageDaemon } from './storage-daemon.ts';
import { qemuVersion } from './version.ts';

export interface MonitorOptions {
  readonly daemon: StorageDaemon;
  readonly commands: ReadonlyMap<string, QmpCommand>;
  readonly stream: Socket;
  /** `\r\n`-terminated, indented answers. */
  readonly pretty?: boolean;
}

/** Members of a request, and `exec-oob` where the client has enabled commands out of band. */
const MEMBERS = ['execute', 'arguments', 'id'];

export class Monitor {
  readonly #options: MonitorOptions;
  readonly #input = new JsonStream();
  #negotiated = false;
  #outOfBand = false;
  #queue: Promise<void> = Promise.resolve();
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
    // Who sends its commands and ends its side still wants the answers.
    stream.on('end', () => void this.#queue.then(() => stream.end()));
    stream.on('data', (bytes: Buffer) => this.#receive(bytes));
    this.#send({ QMP: { version: qemuVersion(daemon.version), capabilities: ['oob'] } });
    await this.#ended.promise;
    unsubscribe();
    await this.#queue;
  }

  /** Says goodbye to the client once everything it has asked for is answered. */
  end(): void {
    void this.#queue.then(() => this.#options.stream.destroySoon());
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
  }

  async #execute(request: Record<string, unknown>): Promise<unknown> {
    const command = this.#find(request);
    const args = parseArguments(command.arguments, request.arguments ?? {});
    return await command.run(args, this.#options.daemon);
  }

  #find(request: Record<string, unknown>): QmpCommand {
    const execute = this.#commandName(request);
    if (execute === 'qmp_capabilities' && !('exec-oob' in request)) return this.#negotiation();
    if (!this.#negotiated) {
      throw new QmpError('CommandNotFound', "Expecting capabilities negotiation with 'qmp_capabilities'");
    }
    const command = this.#options.commands.get(execute);
    if (command === undefined) {
      throw new QmpError('CommandNotFound', `The command ${execute} has not been found`);
    }
    // No command here is one that must be able to overtake others.
    if ('exec-oob' in request) throw fault(`The command ${execute} does not support OOB`);
    return command;
  }

  /** Throws for a request that is none. */
  #commandName(request: Record<string, unknown>): string {
    let name: string | undefined;
    for (const [key, value] of Object.entries(request)) {
      const isCommand = key === 'execute' || (key === 'exec-oob' && this.#outOfBand);
      if (isCommand) {
        if (typeof value !== 'string') throw fault(`QMP input member '${key}' must be a string`);
        if (name !== undefined) throw fault("QMP input member 'execute' clashes with 'exec-oob'");
        name = value;
      } else if (!MEMBERS.includes(key)) throw fault(`QMP input member '${key}' is unexpected`);
      else if (key === 'arguments' && !isObject(value)) {
        throw fault("QMP input member 'arguments' must be an object");
      }
    }
    if (name === undefined) throw fault("QMP input lacks member 'execute'");
    return name;
  }

  #negotiation(): QmpCommand {
    const command = this.#options.commands.get('qmp_capabilities')!;
    return {
      ...command,
      run: (args, daemon) => {
        if (this.#negotiated) {
          const text = 'Capabilities negotiation is already complete, command ignored';
          throw new QmpError('CommandNotFound', text);
        }
        this.#negotiated = true;
        this.#outOfBand = (args as { enable?: string[] }).enable?.includes('oob') ?? false;
        return command.run(args, daemon);
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
    if (!stream.writable) return;
    stream.write(`${JSON.stringify(message, exactIntegers, pretty === true ? 4 : undefined)}\r\n`);
    // Events go on while nobody reads: such a client is no client any more.
    if (stream.writableLength > MONITOR_OUTPUT_BYTES_MAX) stream.destroy();
  }
}

/** The language has it, the compiler's library does not know it yet. */
const { rawJSON: rawJson } = JSON as unknown as { rawJSON(text: string): object };

/** Integers come back as they came, however long. */
function exactIntegers(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? rawJson(String(value)) : value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  return !Array.isArray(value) && !(value instanceof WholeDouble);
}

function asObject(value: unknown): Record<string, unknown> {
  if (isObject(value)) return value;
  throw fault('QMP input must be a JSON object');
}

function fault(desc: string): QmpError {
  return new QmpError('GenericError', desc);
}
