// The gRPC control service: listens, and ends calls in order when the process stops.

import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import {
  type FleetKeys,
  grpcServerCredentials,
  requireFleetSecret,
  type TidemarkError,
} from '@tidemark/proto';
import { formatHostPort, type HostPort } from '../host-port.ts';
import { CLOSE_GRACE_MS } from '../limits.ts';

/** A caller that does not know the fleet's secret. */
export interface Refusal {
  readonly peer: string;
  readonly error: TidemarkError;
}

/** One service as the generated code defines it, and what answers it. */
export interface GrpcService {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
}

export class GrpcServer {
  readonly #listen: HostPort;
  readonly #server: Server;
  readonly #credentials: ServerCredentials;
  #port: number | undefined;

  /** Without keys everybody who reaches the address commands the storage node. */
  constructor(
    options: FleetKeys & {
      listen: HostPort;
      /** Told of each call that is refused before it begins. */
      refused: (refusal: Refusal) => void;
      services: readonly GrpcService[];
    },
  ) {
    const { listen, fleetSecret, tls, refused } = options;
    this.#credentials = tls ? grpcServerCredentials(tls) : ServerCredentials.createInsecure();
    this.#listen = listen;
    const interceptors = fleetSecret === undefined ? [] : [requireFleetSecret(fleetSecret, refused)];
    this.#server = new Server({ interceptors });
    for (const { definition, implementation } of options.services) {
      this.#server.addService(definition, implementation);
    }
  }

  /** Where it listens, with the port the system chose; undefined before `start`. */
  get address(): HostPort | undefined {
    return this.#port === undefined ? undefined : { host: this.#listen.host, port: this.#port };
  }

  /** Rejects when the address cannot be listened on. */
  async start(): Promise<void> {
    const address = formatHostPort(this.#listen);
    this.#port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(address, this.#credentials, (error, port) => {
        if (error === null) resolve(port);
        else reject(new Error(`Cannot listen on ${address} for gRPC: ${error.message}`, { cause: error }));
      });
    });
  }

  /** Takes no more calls and waits a while for those under way; streams are cut after that. */
  async close(): Promise<void> {
    await new Promise<void>(resolve => {
      const timer = setTimeout(() => this.#server.forceShutdown(), CLOSE_GRACE_MS);
      this.#server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}
