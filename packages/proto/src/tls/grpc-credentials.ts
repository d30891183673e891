// TLS of gRPC, with certificates of both sides: what is renewed in the files is used from the next connection on.
import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import { type ChannelCredentials, experimental, type ServerCredentials } from '@grpc/grpc-js';
import { parseHostPort } from '../host-port.ts';
import type { TlsFiles } from './tls-files.ts';

/** Of a server: who has no certificate of the CA gets no connection. */
export function grpcServerCredentials(files: TlsFiles): ServerCredentials {
  const provider = new FilesProvider(files);
  return experimental.createCertificateProviderServerCredentials(provider, provider, true);
}

/** Of a client: the certificate of the other side has to be of the CA, and to name the host of `address`. */
export function grpcClientCredentials(
  files: TlsFiles,
  address: string,
): { credentials: ChannelCredentials; options: Record<string, string> } {
  const provider = new FilesProvider(files);
  const host = parseHostPort(address)?.host ?? address;
  const credentials = experimental.createCertificateProviderChannelCredentials(provider, provider, {
    checkServerIdentity: (_name, certificate) => checkServerIdentity(host, certificate),
  });
  // The extension for server names has no room for addresses (RFC 6066, 3). What is sent instead chooses nothing.
  return {
    credentials,
    options: isIP(host) === 0 ? {} : { 'grpc.ssl_target_name_override': 'storage-node' },
  };
}

type Update = experimental.CaCertificateUpdate & experimental.IdentityCertificateUpdate;
type Listener = (update: Update | null) => void;

class FilesProvider implements experimental.CertificateProvider {
  readonly #files: TlsFiles;
  readonly #ends = new Map<Listener, () => void>();

  constructor(files: TlsFiles) {
    this.#files = files;
  }

  addCaCertificateListener(listener: Listener): void {
    this.#add(listener);
  }

  removeCaCertificateListener(listener: Listener): void {
    this.#remove(listener);
  }

  addIdentityCertificateListener(listener: Listener): void {
    this.#add(listener);
  }

  removeIdentityCertificateListener(listener: Listener): void {
    this.#remove(listener);
  }

  #add(listener: Listener): void {
    const tell = () => {
      const { cert, key, ca } = this.#files.material;
      if (this.#ends.has(listener)) {
        listener({ certificate: cert, privateKey: key, caCertificate: ca ?? Buffer.alloc(0) });
      }
    };
    this.#ends.set(listener, this.#files.onChange(tell));
    // Who adds one is not ready for it yet.
    process.nextTick(tell);
  }

  #remove(listener: Listener): void {
    this.#ends.get(listener)?.();
    this.#ends.delete(listener);
  }
}
