// What can be told of certificate, key and CA before anybody connects: each fault names its file and the next step.
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { createSecureContext, type SecureContextOptions } from 'node:tls';

/** A file, and the setting that names it. */
export interface NamedFile {
  readonly setting: string;
  readonly path: string;
}

export interface TlsPaths {
  readonly cert: NamedFile;
  readonly key: NamedFile;
  /** Signs the certificates of the other side; undefined: the other side shows none. */
  readonly ca: NamedFile | undefined;
}

/** PEM. */
export interface TlsMaterial {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer | undefined;
}

export interface TlsFault {
  /** Of the file that is to be put right. */
  readonly setting: string;
  /** To be read after the setting's name. */
  readonly message: string;
}

/** `server`: others connect to it. `client`: it connects to others. */
export type Purpose = 'server' | 'client';

export interface CertificateUse {
  readonly paths: TlsPaths;
  readonly purpose: Purpose;
  readonly host?: string | undefined;
  /** Since 1970. */
  readonly nowMs: number;
}

/** Extended key usages (RFC 5280, 4.2.1.12). A certificate that lists none is good for all. */
const USAGES: Record<Purpose, { oid: string; name: string }> = {
  server: { oid: '1.3.6.1.5.5.7.3.1', name: 'serverAuth' },
  client: { oid: '1.3.6.1.5.5.7.3.2', name: 'clientAuth' },
};

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/** None: they can be used. */
export function certificateFaults({ cert, key, ca }: TlsMaterial, use: CertificateUse): TlsFault[] {
  const { paths, nowMs } = use;
  const faults: TlsFault[] = [];
  const complain = ({ setting, path }: NamedFile, what: string) =>
    void faults.push({ setting, message: `names ${path}, ${what}` });
  const [own] = parseCertificates(cert);
  if (own === undefined) complain(paths.cert, 'which holds no certificate in PEM form');
  const privateKey = parseKey(key);
  if (typeof privateKey === 'string') complain(paths.key, privateKey);
  if (own !== undefined) for (const fault of ownFaults(own, use)) complain(paths.cert, fault);
  if (own !== undefined && typeof privateKey !== 'string' && !own.checkPrivateKey(privateKey)) {
    complain(
      paths.key,
      `which is not the key of the certificate in ${paths.cert.path}: give both of one making`,
    );
  }
  if (ca !== undefined && paths.ca !== undefined) faults.push(...authorityFaults(ca, paths.ca, nowMs));
  return faults.length > 0 ? faults : libraryFaults({ cert, key, ca }, paths);
}

/** Of what is right by itself, and is not taken all the same: otherwise each connection would fail, without a word. */
function libraryFaults({ cert, key, ca }: TlsMaterial, paths: TlsPaths): TlsFault[] {
  const own = libraryFault({ cert, key }, paths.cert);
  const authority = ca && paths.ca && libraryFault({ ca }, paths.ca);
  return [own, authority].filter(fault => fault !== undefined);
}

function libraryFault(taken: SecureContextOptions, { setting, path }: NamedFile): TlsFault | undefined {
  try {
    createSecureContext(taken);
    return undefined;
  } catch (error) {
    // `error:0A00018F:SSL routines::ee key too small`
    const reason = (error as Error).message.split(':').at(-1);
    return {
      setting,
      message: `names ${path}, which the TLS library refuses (${reason}): make it anew, as docs/SECURITY.md does`,
    };
  }
}

/** Of a file with CAs, one of which has to be valid. */
export function authorityFaults(ca: Buffer, { setting, path }: NamedFile, nowMs: number): TlsFault[] {
  const dates = parseCertificates(ca).map(authority => datesFault(authority, nowMs));
  if (dates.includes(undefined)) return [];
  return [{ setting, message: `names ${path}, ${dates[0] ?? 'which holds no certificate in PEM form'}` }];
}

function ownFaults(own: X509Certificate, { purpose, host, nowMs }: CertificateUse): string[] {
  const faults: string[] = [];
  const dates = datesFault(own, nowMs);
  if (dates !== undefined) faults.push(dates);
  const { oid, name } = USAGES[purpose];
  const usages = own.keyUsage as string[] | undefined;
  if (usages !== undefined && !usages.includes(oid)) {
    faults.push(`whose certificate is not for a ${purpose}: make one with ${name} in extendedKeyUsage`);
  }
  if (host !== undefined && !namesHost(own, host)) {
    const names = own.subjectAltName ?? own.subject;
    faults.push(
      `whose certificate is not for ${host}, where others connect to, but for ${names}: ` +
        `make one with ${host} in subjectAltName`,
    );
  }
  return faults;
}

function namesHost(own: X509Certificate, host: string): boolean {
  return (isIP(host) === 0 ? own.checkHost(host) : own.checkIP(host)) !== undefined;
}

function datesFault(certificate: X509Certificate, nowMs: number): string | undefined {
  const { validToDate: to, validFromDate: from } = certificate;
  if (to.getTime() <= nowMs) return `whose certificate expired at ${to.toISOString()}: renew it`;
  if (from.getTime() > nowMs) {
    return `whose certificate is not valid before ${from.toISOString()}: set the clock right, or wait`;
  }
  return undefined;
}

/** Empty also where one of them cannot be read. */
function parseCertificates(pem: Buffer): X509Certificate[] {
  try {
    return (pem.toString('latin1').match(PEM_CERTIFICATE) ?? []).map(text => new X509Certificate(text));
  } catch {
    return [];
  }
}

/** Or what is wrong with it, which never says what is in it. */
function parseKey(pem: Buffer): KeyObject | string {
  try {
    return createPrivateKey(pem);
  } catch {
    return pem.includes('ENCRYPTED')
      ? 'which asks for a passphrase: give the key without one, readable by the service alone'
      : 'which holds no private key in PEM form';
  }
}
