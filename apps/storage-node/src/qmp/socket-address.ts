// Where a server is to listen, as QAPI words it, and what is said when it cannot.
import { existsSync, lstatSync, rmSync } from 'node:fs';
import { isIP } from 'node:net';
import { dirname } from 'node:path';
import type { NbdListenOptions } from '@tidemark/nbd';
import { z } from 'zod';
import { uint16 } from './arguments.ts';
import { genericError } from './qmp-error.ts';
import { systemErrorText } from './system-error-text.ts';

const inet = z.strictObject({
  host: z.string(),
  port: z.string(),
  numeric: z.boolean().optional(),
  to: uint16.optional(),
  ipv4: z.boolean().optional(),
  ipv6: z.boolean().optional(),
  'keep-alive': z.boolean().optional(),
  mptcp: z.boolean().optional(),
});
const unix = z.strictObject({
  path: z.string(),
  abstract: z.boolean().optional(),
  tight: z.boolean().optional(),
});
const vsock = z.strictObject({ cid: z.string(), port: z.string() });
const fd = z.strictObject({ str: z.string() });

/** QAPI `SocketAddress`: members by type. */
export const socketAddress = z.discriminatedUnion('type', [
  inet.extend({ type: z.literal('inet') }),
  unix.extend({ type: z.literal('unix') }),
  vsock.extend({ type: z.literal('vsock') }),
  fd.extend({ type: z.literal('fd') }),
]);
export type SocketAddress = z.output<typeof socketAddress>;

/** QAPI `SocketAddressLegacy`: what differs by type lies under `data`. */
export const legacySocketAddress = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('inet'), data: inet }),
  z.strictObject({ type: z.literal('unix'), data: unix }),
  z.strictObject({ type: z.literal('vsock'), data: vsock }),
  z.strictObject({ type: z.literal('fd'), data: fd }),
]);

/** Without the extra level. */
export function fromLegacyAddress({ type, data }: z.output<typeof legacySocketAddress>): SocketAddress {
  return { type, ...data } as SocketAddress;
}

/** What `sockaddr_un` has room for. */
const UNIX_PATH_BYTES_MAX = 108;

/**
 * The addresses to try, in order: more than one where a range of ports is given. Throws `QmpError` for what
 * cannot be listened on. A socket that somebody left at a Unix path is removed.
 */
export function listenCandidates(address: SocketAddress): NbdListenOptions[] {
  switch (address.type) {
    case 'unix':
      return [unixCandidate(address.path, address.abstract ?? false)];
    case 'inet':
      return inetCandidates(address);
    case 'fd':
      throw genericError('only QEMU supports file descriptor passing');
    case 'vsock':
      throw genericError('vsock sockets are not supported: use inet or unix');
  }
}

function unixCandidate(path: string, isAbstract: boolean): NbdListenOptions {
  if (Buffer.byteLength(path) > UNIX_PATH_BYTES_MAX) {
    throw genericError(`UNIX socket path '${path}' is too long`);
  }
  if (isAbstract) return { path: `\0${path}` };
  if (path === '') throw genericError("Parameter 'path' must not be empty: name the socket's place");
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket()) rmSync(path, { force: true });
  return { path };
}

type InetAddress = Extract<SocketAddress, { type: 'inet' }>;

function inetCandidates({ host, port, to, ipv4, ipv6 }: InetAddress): NbdListenOptions[] {
  const unresolved = (why: string) => genericError(`address resolution failed for ${host}:${port}: ${why}`);
  if (host === '' && port === '') throw unresolved('Name or service not known');
  const first = Number(port);
  if (!/^[0-9]*$/.test(port) || first > 0xffff) throw unresolved('Servname not supported for ai_socktype');
  const refused = { 0: false, 4: isRefused(ipv4, ipv6), 6: isRefused(ipv6, ipv4) }[isIP(host) as 0 | 4 | 6];
  if (refused) throw unresolved('Address family for hostname not supported');
  const last = Math.max(first, to ?? first);
  const anywhere = ipv6 === false ? '0.0.0.0' : undefined;
  const where = host === '' ? anywhere : host;
  return Array.from({ length: last - first + 1 }, (_, index) => ({
    ...(where !== undefined && { host: where }),
    port: first + index,
  }));
}

/** A family is out when it is switched off, or when the other one alone is switched on. */
function isRefused(own: boolean | undefined, other: boolean | undefined): boolean {
  return own === false || (own === undefined && other === true);
}

/** What the system said of the address, in QEMU's words. */
export function listenError(address: SocketAddress, cause: unknown): Error {
  const code = (cause as NodeJS.ErrnoException).code;
  if (address.type === 'unix') {
    // The runtime turns a missing folder into a lack of permission.
    const isMissing = code === 'EACCES' && !existsSync(dirname(address.path));
    const text = isMissing ? 'No such file or directory' : systemErrorText(cause);
    return genericError(`Failed to bind socket to ${address.path}: ${text}`);
  }
  if (address.type === 'inet' && (code === 'ENOTFOUND' || code === 'EAI_AGAIN')) {
    const { host, port } = address;
    return genericError(`address resolution failed for ${host}:${port}: Name or service not known`);
  }
  return genericError(`Failed to bind socket: ${systemErrorText(cause)}`);
}
