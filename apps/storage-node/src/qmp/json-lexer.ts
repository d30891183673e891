// Cuts a byte stream into JSON tokens as QEMU's monitor does: strings may stand in single quotes, and after a
// byte that fits nowhere everything up to the next bracket, comma, colon or end of line is passed over.
import { MONITOR_TOKEN_BYTES_MAX } from '../limits.ts';

export interface JsonToken {
  /** `stray`: the token so far, with the byte that did not fit; `oversized`: longer than any token may be. */
  readonly kind: 'punctuation' | 'string' | 'number' | 'keyword' | 'stray' | 'oversized';
  /** Of a string with its quotes. Not to be kept: the bytes are the stream's. */
  readonly bytes: Buffer;
}

/** What the lexer is in: given a byte, the next state, or what has come of the token. */
type State = (byte: number) => State | Outcome;

/** The token ends with this byte; it ended before this byte; the byte fits nowhere; the byte starts afresh. */
type Outcome = 'end' | 'end-before' | 'stray' | 'restart';

const isDigit = (byte: number) => byte >= 0x30 && byte <= 0x39;
const isLetter = (byte: number) => byte >= 0x61 && byte <= 0x7a;
const isExponent = (byte: number) => byte === 0x45 || byte === 0x65;
const isSpace = (byte: number) => byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;
const isPunctuation = (byte: number) => PUNCTUATION.includes(byte);
const PUNCTUATION = Buffer.from('{}[]:,');
const [DOUBLE_QUOTE, SINGLE_QUOTE, BACKSLASH] = [0x22, 0x27, 0x5c];
const [PLUS, MINUS, POINT, ZERO] = [0x2b, 0x2d, 0x2e, 0x30];
/** Neither control characters nor bytes that no UTF-8 has. */
const isText = (byte: number) => byte >= 0x20 && byte < 0xfe;

const start: State = byte => {
  if (isSpace(byte)) return start;
  if (isPunctuation(byte)) return 'end';
  if (byte === DOUBLE_QUOTE) return doubleQuoted;
  if (byte === SINGLE_QUOTE) return singleQuoted;
  if (byte === MINUS) return minus;
  if (byte === ZERO) return wholePart;
  if (isDigit(byte)) return digits;
  return isLetter(byte) ? keyword : 'stray';
};

const doubleQuoted = quoted(DOUBLE_QUOTE);
const singleQuoted = quoted(SINGLE_QUOTE);

function quoted(quote: number): State {
  const escaped: State = byte => (isText(byte) ? inside : 'stray');
  const inside: State = byte => {
    if (byte === quote) return 'end';
    if (byte === BACKSLASH) return escaped;
    return isText(byte) ? inside : 'stray';
  };
  return inside;
}

const minus: State = byte => {
  if (byte === ZERO) return wholePart;
  return isDigit(byte) ? digits : 'stray';
};
/** After a leading zero. */
const wholePart: State = byte => {
  if (isDigit(byte)) return 'stray';
  return byte === POINT ? point : 'end-before';
};
const digits: State = byte => {
  if (isDigit(byte)) return digits;
  if (byte === POINT) return point;
  return isExponent(byte) ? exponent : 'end-before';
};
const point: State = byte => (isDigit(byte) ? fraction : 'stray');
const fraction: State = byte => {
  if (isDigit(byte)) return fraction;
  return isExponent(byte) ? exponent : 'end-before';
};
const exponent: State = byte => {
  if (byte === PLUS || byte === MINUS) return exponentSign;
  return isDigit(byte) ? exponentDigits : 'stray';
};
const exponentSign: State = byte => (isDigit(byte) ? exponentDigits : 'stray');
const exponentDigits: State = byte => (isDigit(byte) ? exponentDigits : 'end-before');
const keyword: State = byte => (isLetter(byte) ? keyword : 'end-before');

const recovery: State = byte => {
  if (byte === 0x0a || byte === 0x0d) return start;
  if (isPunctuation(byte)) return 'restart';
  return isText(byte) || byte === 0x09 ? recovery : 'stray';
};

export class JsonLexer {
  #state: State = start;
  /** The token so far, from earlier chunks. */
  #carried: Buffer[] = [];
  #carriedBytes = 0;

  *feed(chunk: Uint8Array): Generator<JsonToken> {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let from = 0;
    for (let at = 0; at < bytes.length; at++) {
      const next = this.#state(bytes[at]!);
      if (typeof next === 'function') {
        this.#state = next;
        if (next === start || next === recovery) from = at + 1;
        continue;
      }
      // A byte that belongs to what follows is looked at again.
      const again = next === 'end-before' || next === 'restart';
      const end = again ? at : at + 1;
      if (again) at--;
      this.#state = next === 'stray' ? recovery : start;
      if (next !== 'restart') yield this.#token(bytes.subarray(from, end), next);
      from = end;
    }
    if (from < bytes.length) yield* this.#carry(bytes.subarray(from));
  }

  /** Between two tokens. */
  get isAtStart(): boolean {
    return this.#state === start;
  }

  #token(rest: Buffer, outcome: Outcome): JsonToken {
    const bytes = this.#carried.length === 0 ? rest : Buffer.concat([...this.#carried, rest]);
    this.#forget();
    return { kind: outcome === 'stray' ? 'stray' : kindOf(bytes[0]!), bytes };
  }

  *#carry(rest: Buffer): Generator<JsonToken> {
    this.#carried.push(Buffer.from(rest));
    this.#carriedBytes += rest.length;
    if (this.#carriedBytes <= MONITOR_TOKEN_BYTES_MAX) return;
    this.#forget();
    this.#state = recovery;
    yield { kind: 'oversized', bytes: Buffer.alloc(0) };
  }

  #forget(): void {
    this.#carried = [];
    this.#carriedBytes = 0;
  }
}

function kindOf(first: number): JsonToken['kind'] {
  if (isPunctuation(first)) return 'punctuation';
  if (first === DOUBLE_QUOTE || first === SINGLE_QUOTE) return 'string';
  return isLetter(first) ? 'keyword' : 'number';
}
