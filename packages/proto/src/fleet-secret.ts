// The fleet's secret: storage nodes take orders from those alone who know it. Callers send it with each call, as gRPC
// metadata; what only TLS could give on top stands in ADR 0054.
import { createHash, timingSafeEqual } from 'node:crypto';
import {
  InterceptingCall,
  type Interceptor,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
} from '@grpc/grpc-js';
import { TidemarkError, toServiceError } from './errors.ts';

const HEADER = 'tidemark-fleet-secret';

/** Equal or not takes as long, whatever they hold and however long they are. */
export function isSameSecret(one: string, other: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}

/** Of a client: every call carries the secret. */
export function sendFleetSecret(secret: string): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        metadata.set(HEADER, secret);
        next(metadata, listener);
      },
    });
}

/**
 * Of a server: calls without the secret, or with another one, end as `fleet-secret-refused` before they begin, and
 * `report` is told of them.
 */
export function requireFleetSecret(
  secret: string,
  report: (refused: { peer: string; error: TidemarkError }) => void,
): ServerInterceptor {
  return ({ path }, call) =>
    new ServerInterceptingCall(call, {
      start(next) {
        const listener = new ServerListenerBuilder()
          .withOnReceiveMetadata((metadata, pass) => {
            const [given] = metadata.get(HEADER);
            metadata.remove(HEADER);
            if (typeof given === 'string' && isSameSecret(given, secret)) return pass(metadata);
            const error = refusal(path, given !== undefined);
            report({ peer: call.getPeer(), error });
            call.sendStatus({ code: 0, details: '', ...toServiceError(error) });
          })
          .build();
        next(listener);
      },
    });
}

function refusal(path: string, given: boolean): TidemarkError {
  const what = given ? 'another secret than the fleet has' : "no fleet's secret";
  return new TidemarkError(
    'fleet-secret-refused',
    `${path} came with ${what}: give api, worker and every storage node the same TIDEMARK_FLEET_SECRET.`,
  );
}
