// Addresses as `host:port`, the form that settings, status answers and URIs share. IPv6 hosts stand in
// brackets when written and without them when handed to a socket.

export interface HostPort {
  /** Without brackets. */
  readonly host: string;
  /** 0 lets the system choose when listening. */
  readonly port: number;
}

const PATTERN = /^(?:\[(?<six>[0-9a-fA-F:.]+)\]|(?<plain>[^\s:[\]/]+)):(?<port>\d{1,5})$/;
export const PORT_MAX = 65_535;

/** Undefined where the text is not an address. */
export function parseHostPort(text: string): HostPort | undefined {
  const groups = PATTERN.exec(text)?.groups;
  const host = groups?.six ?? groups?.plain;
  const port = Number(groups?.port);
  if (host === undefined || port > PORT_MAX) return undefined;
  return { host, port };
}

/** Whether only this machine can reach it. A name other than `localhost` may lead anywhere. */
export function isLoopback({ host }: HostPort): boolean {
  return /^(127(\.\d{1,3}){3}|::1|localhost)$/.test(host);
}

export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
