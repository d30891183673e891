// NBD addresses as text: `nbd://host:port/export` and `nbd+unix:///export?socket=path`
// (the reference implementation's doc/uri.md).
import { NbdOptionError } from './errors.ts';
import { DEFAULT_PORT } from './protocol.ts';

export type NbdTarget =
  | { readonly host: string; readonly port: number; readonly exportName: string }
  | { readonly path: string; readonly exportName: string };

/** @throws NbdOptionError naming what is wrong with the address. */
export function parseNbdUri(uri: string): NbdTarget {
  const refuse = (why: string): never => {
    throw new NbdOptionError('URI', `${uri} is no NBD address: ${why}`);
  };
  let url: URL;
  let exportName: string;
  try {
    url = new URL(uri);
    // One slash separates the export's name; further ones belong to it.
    exportName = decodeURIComponent(url.pathname.replace(/^\//, ''));
  } catch {
    return refuse('it is no URI');
  }
  if (url.protocol === 'nbd:') {
    if (url.hostname === '') return refuse('it names no host');
    const port = url.port === '' ? DEFAULT_PORT : Number(url.port);
    return { host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port, exportName };
  }
  if (url.protocol !== 'nbd+unix:') return refuse('only nbd:// and nbd+unix:// are supported');
  const path = url.searchParams.get('socket');
  if (path === null || path === '') return refuse('it has no ?socket=PATH');
  return { path, exportName };
}

export function formatNbdUri(target: NbdTarget): string {
  const name = encodeURIComponent(target.exportName);
  if ('path' in target)
    return `nbd+unix:///${name}?socket=${encodeURI(target.path).replace(/[&#+?]/g, encodeURIComponent)}`;
  const host = target.host.includes(':') ? `[${target.host}]` : target.host;
  return `nbd://${host}:${target.port}/${name}`;
}
