// Where an NBD server is, for messages: who knows the name of an unlisted export may use it, so no message tells it.
import { parseNbdUri } from '@tidemark/nbd';
import { formatHostPort } from '../host-port.ts';

/** `host:port` or the socket's path. Total: an address that cannot be read is called that, without its text. */
export function nbdPlace(uri: string): string {
  try {
    const target = parseNbdUri(uri);
    return 'path' in target ? target.path : formatHostPort(target);
  } catch {
    return '(no NBD address)';
  }
}
