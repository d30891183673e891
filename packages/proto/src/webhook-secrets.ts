// Secrets of webhooks as they stand in the catalog: sealed with a key that is not there, each for its webhook alone.
// `sealed1.<key>.<nonce>.<ciphertext and tag>`: AES-256-GCM with the webhook's id as associated data; the key is
// derived by HKDF-SHA256, and what stands for it in the text says which one it was and nothing else of it.
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { TidemarkError } from './errors.ts';

const FORMAT = 'sealed1';
const CIPHER = 'aes-256-gcm';
const KEY_BYTES = 32;
const ID_BYTES = 4;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const PURPOSE = 'tidemark webhook secrets';
/** What comes before the first dot of those from before secrets were sealed. */
const PLAIN = /^whsec_/;

interface Key {
  readonly id: string;
  readonly bytes: Buffer;
}

/** Of whose secret it is: the id binds it, the name is for messages. */
export interface SecretOwner {
  readonly id: string;
  readonly name: string;
}

function keyOf(text: string): Key {
  // The two are blocks of one derivation: neither tells of the other.
  const derived = Buffer.from(hkdfSync('sha256', text, '', PURPOSE, KEY_BYTES + ID_BYTES));
  return { bytes: derived.subarray(0, KEY_BYTES), id: derived.subarray(KEY_BYTES).toString('hex') };
}

export class WebhookSecrets {
  readonly #keys: readonly Key[];

  /** The first key seals, all of them open; none: nothing can be sealed or opened. */
  constructor(keys: readonly string[]) {
    this.#keys = keys.map(keyOf);
  }

  /** Rejects `webhook-key-missing`. */
  seal(owner: SecretOwner, secret: string): string {
    const [key] = this.#keys;
    if (key === undefined) throw this.#missing(owner);
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, key.bytes, nonce).setAAD(Buffer.from(owner.id));
    const sealed = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return [FORMAT, key.id, nonce.toString('base64url'), sealed.toString('base64url')].join('.');
  }

  /** Rejects `webhook-key-missing`, `webhook-key-unknown` and, for what was changed, `webhook-secret-damaged`. */
  open(owner: SecretOwner, text: string): string {
    if (PLAIN.test(text)) return text;
    const [format, id, nonce, sealed] = text.split('.');
    if (format !== FORMAT || nonce === undefined || sealed === undefined) throw this.#damaged(owner);
    if (this.#keys.length === 0) throw this.#missing(owner);
    const key = this.#keys.find(one => one.id === id);
    if (key === undefined) throw this.#unknown(owner, id!);
    const bytes = Buffer.from(sealed, 'base64url');
    try {
      const decipher = createDecipheriv(CIPHER, key.bytes, Buffer.from(nonce, 'base64url'), {
        authTagLength: TAG_BYTES,
      });
      decipher.setAAD(Buffer.from(owner.id)).setAuthTag(bytes.subarray(-TAG_BYTES));
      return decipher.update(bytes.subarray(0, -TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
    } catch {
      throw this.#damaged(owner);
    }
  }

  /** As it is to stand in the catalog from now on; null: as it does. Rejects as `open` does. */
  resealed(owner: SecretOwner, text: string): string | null {
    if (text.startsWith(`${FORMAT}.${this.#keys[0]?.id}.`)) return null;
    return this.seal(owner, this.open(owner, text));
  }

  #missing({ name }: SecretOwner): TidemarkError {
    return new TidemarkError(
      'webhook-key-missing',
      `The secret of webhook '${name}' cannot be kept or used without a key: give api and workers the same ` +
        'TIDEMARK_WEBHOOK_KEY (openssl rand -hex 32), or the TIDEMARK_FLEET_SECRET, and start them again.',
    );
  }

  #unknown({ name }: SecretOwner, id: string): TidemarkError {
    const own = this.#keys.map(key => key.id).join(', ');
    return new TidemarkError(
      'webhook-key-unknown',
      `The secret of webhook '${name}' is sealed with key ${id}; this service has ${own}. Start it with the key of ` +
        'then as TIDEMARK_WEBHOOK_KEY_PREVIOUS, or give the webhook a new secret ' +
        `(POST /v1/webhooks/${name}/secret) and its receiver, too.`,
    );
  }

  #damaged({ name }: SecretOwner): TidemarkError {
    return new TidemarkError(
      'webhook-secret-damaged',
      `The secret of webhook '${name}' is not as it was sealed, or was sealed for another webhook. Give the webhook ` +
        `a new secret (POST /v1/webhooks/${name}/secret) and its receiver, too.`,
    );
  }
}
