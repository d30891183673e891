// Certificates for tests, made by `openssl` in a folder of the test's own.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

export interface CertificateWishes {
  /** As openssl writes them: `DNS:alpha,IP:127.0.0.1`. */
  readonly names?: string;
  /** Both unless told. */
  readonly usage?: 'serverAuth' | 'clientAuth' | 'serverAuth,clientAuth';
  readonly isExpired?: boolean;
}

const CURVE = ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'];

/** Rejects by throwing where `openssl` is not installed. */
export class CertificateMaker {
  readonly #folder: string;
  readonly ca: string;
  readonly #caKey: string;

  /** Makes a CA of that name in the folder. */
  constructor(folder: string, name = 'ca') {
    this.#folder = folder;
    this.#caKey = this.#makeKey(name);
    this.ca = join(folder, `${name}.pem`);
    const subject = ['-subj', `/CN=${name}`, '-days', '30'];
    openssl('req', '-x509', '-new', '-key', this.#caKey, ...subject, '-out', this.ca);
  }

  get caPem(): string {
    return readFileSync(this.ca, 'utf8');
  }

  /** NAME.pem and NAME-key.pem, over those of an earlier one. */
  make(name: string, wishes: CertificateWishes = {}): CertificateFiles {
    const {
      names = 'DNS:localhost,IP:127.0.0.1,IP:::1',
      usage = 'serverAuth,clientAuth',
      isExpired = false,
    } = wishes;
    const key = this.#makeKey(name);
    const path = (end: string) => join(this.#folder, `${name}${end}`);
    openssl('req', '-new', '-key', key, '-subj', `/CN=${name}`, '-out', path('.csr'));
    writeFileSync(path('.ext'), `subjectAltName=${names}\nextendedKeyUsage=${usage}\n`);
    const signer = ['-CA', this.ca, '-CAkey', this.#caKey, '-extfile', path('.ext')];
    const days = isExpired ? '-1' : '30';
    openssl('x509', '-req', '-in', path('.csr'), ...signer, '-days', days, '-out', path('.pem'));
    return { cert: path('.pem'), key };
  }

  #makeKey(name: string): string {
    const path = join(this.#folder, `${name}-key.pem`);
    openssl('genpkey', ...CURVE, '-out', path);
    return path;
  }
}

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
