// Addresses of this storage node: the form that all services share, and what can be reached from elsewhere.
import type { HostPort } from '@tidemark/proto';

export { formatHostPort, type HostPort } from '@tidemark/proto';

/** True for an address that can be listened on but that nobody can connect to from elsewhere. */
export function isWildcard({ host }: HostPort): boolean {
  return host === '0.0.0.0' || host === '::';
}
