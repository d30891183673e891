// Why a connection over TLS did not come about, out of the words of the TLS library, with the next step. What the
// other side does not like it tells nobody: it ends the connection.

interface Trouble {
  readonly sign: RegExp;
  readonly says: (address: string) => string;
}

/** Of who calls over TLS: what it sees. */
const SEEN: readonly Trouble[] = [
  {
    sign: /wrong version number|packet length too long/,
    says: () =>
      'it speaks no TLS: set TIDEMARK_TLS_CERT_FILE, TIDEMARK_TLS_KEY_FILE and TIDEMARK_TLS_CA_FILE there too',
  },
  {
    sign: /self[- ]signed certificate|unable to (get|verify)|certificate signature failure/,
    says: () =>
      'its certificate is not of the CA in TIDEMARK_TLS_CA_FILE: give every service the same CA, and a certificate ' +
      'of it',
  },
  {
    sign: /certificate has expired/,
    says: () => 'its certificate, or the CA of it, has expired: renew it',
  },
  {
    sign: /certificate is not yet valid/,
    says: () => 'its certificate is not valid yet: compare the clocks of both machines',
  },
  {
    sign: /ALTNAME_INVALID|does not match certificate's altnames/,
    says: address =>
      `its certificate is not for the host of ${address}: make one with that host in subjectAltName, or register the ` +
      'storage node under a host that it names',
  },
  {
    sign: /(unsupported|unsuitable) certificate purpose/,
    says: () => 'its certificate is not for a server: make one with serverAuth in extendedKeyUsage',
  },
];

/** A connection that was there, and was ended before it was of any use. */
const ENDED = /Failed to connect|Socket closed|socket hang up|ECONNRESET|EPIPE|before secure TLS|alert/;
/** Without TLS; what else ends one is a process that went away. */
const ENDED_AT_ONCE = /Failed to connect/;

interface Call {
  readonly address: string;
  readonly usesTls: boolean;
}

/** Undefined: it has nothing to do with TLS, or nothing is known of it. */
export function tlsTrouble(details: string, { address, usesTls }: Call): string | undefined {
  return usesTls ? SEEN.find(({ sign }) => sign.test(details))?.says(address) : undefined;
}

/** What it may be as well, as a sentence: a connection that ends tells not why. Empty: it cannot be. */
export function tlsHint(details: string, { usesTls }: Call): string {
  if (usesTls) {
    return ENDED.test(details)
      ? ' Or it refuses the certificate of who calls: that in TIDEMARK_TLS_CERT_FILE here has to be of the CA there, ' +
          'valid, and good for clientAuth.'
      : '';
  }
  return ENDED_AT_ONCE.test(details)
    ? ' If it asks for TLS, set TIDEMARK_TLS_CERT_FILE, TIDEMARK_TLS_KEY_FILE and TIDEMARK_TLS_CA_FILE here too.'
    : '';
}
