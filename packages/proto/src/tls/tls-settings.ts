// Settings of TLS: files, which are read and checked together with the settings that name them.
import { z } from 'zod';
import type { Purpose, TlsPaths } from './certificate-faults.ts';
import { readCaFile, TlsFiles, TlsFilesError } from './tls-files.ts';

/** Names a file. */
export const fileSetting = z.string().min(1, 'must not be empty').optional();

/** Of gRPC, for every service of the fleet: a certificate of its own, and the CA of all the others'. */
export const fleetTlsSettings = {
  TIDEMARK_TLS_CERT_FILE: fileSetting,
  TIDEMARK_TLS_KEY_FILE: fileSetting,
  TIDEMARK_TLS_CA_FILE: fileSetting,
};

/** Of the API over HTTPS. */
export const apiTlsSettings = {
  TIDEMARK_API_TLS_CERT_FILE: fileSetting,
  TIDEMARK_API_TLS_KEY_FILE: fileSetting,
};

type Settings<Schema> = { readonly [Name in keyof Schema]?: string | undefined };

export interface TlsUse {
  readonly purpose: Purpose;
  /** The host that others connect to, where it is known. */
  readonly host?: string | undefined;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

interface IssueSink {
  addIssue(issue: { code: 'custom'; path: string[]; message: string }): void;
}

/** Undefined: not configured. What is wrong with the files is told to `context`, and null. */
export function openFleetTls(
  settings: Settings<typeof fleetTlsSettings>,
  use: TlsUse,
  context: IssueSink,
): TlsFiles | undefined | null {
  const { TIDEMARK_TLS_CERT_FILE, TIDEMARK_TLS_KEY_FILE, TIDEMARK_TLS_CA_FILE } = settings;
  const files = { TIDEMARK_TLS_CERT_FILE, TIDEMARK_TLS_KEY_FILE, TIDEMARK_TLS_CA_FILE };
  return openTls(files, use, context);
}

/** As `openFleetTls`. */
export function openApiTls(
  settings: Settings<typeof apiTlsSettings>,
  use: Omit<TlsUse, 'purpose'>,
  context: IssueSink,
): TlsFiles | undefined | null {
  const { TIDEMARK_API_TLS_CERT_FILE, TIDEMARK_API_TLS_KEY_FILE } = settings;
  const files = { TIDEMARK_API_TLS_CERT_FILE, TIDEMARK_API_TLS_KEY_FILE };
  return openTls(files, { ...use, purpose: 'server' }, context);
}

/** A CA that stands alone, for callers that show no certificate: undefined where none is named; else as above. */
export function readCa(
  { setting, path }: { setting: string; path: string | undefined },
  { now }: { now: () => number },
  context: IssueSink,
): Buffer | undefined | null {
  return path === undefined ? undefined : told(() => readCaFile({ setting, path }, now()), context);
}

/** Certificate, key and, where there is one, CA: in this order. */
function openTls(
  files: Record<string, string | undefined>,
  use: TlsUse,
  context: IssueSink,
): TlsFiles | undefined | null {
  const names = Object.keys(files);
  const unset = names.filter(name => files[name] === undefined);
  if (unset.length === names.length) return undefined;
  if (unset.length > 0) {
    const message = `is not set: ${names.join(', ')} go together`;
    for (const name of unset) context.addIssue({ code: 'custom', path: [name], message });
    return null;
  }
  const [cert, key, ca] = names.map(setting => ({ setting, path: files[setting]! }));
  const paths: TlsPaths = { cert: cert!, key: key!, ca };
  return told(() => new TlsFiles({ paths, ...use }), context);
}

function told<T>(open: () => T, context: IssueSink): T | null {
  try {
    return open();
  } catch (error) {
    if (!(error instanceof TlsFilesError)) throw error;
    for (const { setting, message } of error.faults) {
      context.addIssue({ code: 'custom', path: [setting], message });
    }
    return null;
  }
}
