// Makes values of the tokens of a JSON stream as QEMU's monitor does: values need no separator, and after a
// fault reading goes on with the next token.
import { MONITOR_DEPTH_MAX, MONITOR_TOKENS_MAX, MONITOR_VALUE_BYTES_MAX } from '../limits.ts';
import { JsonLexer, type JsonToken } from './json-lexer.ts';
import { JsonFault, unquote } from './json-string.ts';

/** A value, whose integers are `bigint` where a number cannot hold them, or a fault. */
export type JsonInput = { readonly value: unknown } | { readonly error: string };

/** A token with what it means: strings and numbers as values, punctuation as itself. */
type Piece = { readonly punctuation: string } | { readonly value: unknown } | { readonly fault: string };

export class JsonStream {
  readonly #lexer = new JsonLexer();
  #pieces: Piece[] = [];
  #bytes = 0;
  #braces = 0;
  #brackets = 0;

  /** The values that the bytes complete, and the faults among them, in order. */
  *feed(bytes: Uint8Array): Generator<JsonInput> {
    for (const token of this.#lexer.feed(bytes)) {
      const input = this.#take(token);
      if (input !== undefined) yield input;
    }
  }

  /** Nothing is left that more bytes could complete. */
  get isAtStart(): boolean {
    return this.#pieces.length === 0 && this.#lexer.isAtStart;
  }

  #take({ kind, bytes }: JsonToken): JsonInput | undefined {
    if (kind === 'oversized') return this.#fault('JSON token size limit exceeded');
    if (kind === 'stray') return this.#fault(`JSON parse error, stray '${shown(bytes)}'`);
    this.#pieces.push(toPiece({ kind, bytes }));
    this.#bytes += bytes.length;
    if (kind === 'punctuation') this.#count(String.fromCharCode(bytes[0]!));
    if (this.#bytes > MONITOR_VALUE_BYTES_MAX) return this.#fault('JSON token size limit exceeded');
    if (this.#pieces.length > MONITOR_TOKENS_MAX) return this.#fault('JSON token count limit exceeded');
    const [braces, brackets] = [this.#braces, this.#brackets];
    if (braces + brackets > MONITOR_DEPTH_MAX) return this.#fault('JSON nesting depth limit exceeded');
    // Where more is closed than was opened nothing that follows can mend it.
    const isWhole = braces < 0 || brackets < 0 || (braces === 0 && brackets === 0);
    return isWhole ? this.#parse() : undefined;
  }

  #count(punctuation: string): void {
    if (punctuation === '{') this.#braces++;
    else if (punctuation === '}') this.#braces--;
    else if (punctuation === '[') this.#brackets++;
    else if (punctuation === ']') this.#brackets--;
  }

  #parse(): JsonInput {
    const pieces = this.#pieces;
    this.#reset();
    try {
      return { value: new PieceParser(pieces).parse() };
    } catch (error) {
      if (error instanceof JsonFault) return { error: `JSON parse error, ${error.message}` };
      throw error;
    }
  }

  #fault(error: string): JsonInput {
    this.#reset();
    return { error };
  }

  #reset(): void {
    this.#pieces = [];
    this.#bytes = 0;
    this.#braces = 0;
    this.#brackets = 0;
  }
}

/** As a C string of UTF-8 comes out. */
function shown(bytes: Buffer): string {
  return bytes.toString().split('\0', 1)[0]!;
}

/** What is wrong with one token is told when the parser comes to it. */
function toPiece({ kind, bytes }: JsonToken): Piece {
  if (kind === 'punctuation') return { punctuation: String.fromCharCode(bytes[0]!) };
  if (kind === 'number') return { value: toNumber(bytes.toString('latin1')) };
  try {
    return { value: kind === 'string' ? unquote(bytes) : fromKeyword(bytes.toString('latin1')) };
  } catch (error) {
    if (error instanceof JsonFault) return { fault: error.message };
    throw error;
  }
}

/** A whole number that was written with a fraction or an exponent: nowhere does it stand for an integer. */
export class WholeDouble {
  readonly #value: number;

  constructor(value: number) {
    this.#value = value;
  }

  toJSON(): number {
    return this.#value;
  }
}

/** Integers of 64 bits are kept exactly; larger ones become floating point. */
function toNumber(text: string): number | bigint | WholeDouble {
  const value = Number(text);
  if (/[.e]/i.test(text) && Number.isInteger(value)) return new WholeDouble(value);
  if (!/^-?[0-9]{16,20}$/.test(text) || Number.isSafeInteger(value)) return value;
  const exact = BigInt(text);
  return exact >= -(2n ** 63n) && exact < 2n ** 64n ? exact : value;
}

function fromKeyword(text: string): boolean | null {
  if (text === 'true') return true;
  if (text === 'false') return false;
  if (text === 'null') return null;
  throw new JsonFault(`invalid keyword '${text}'`);
}

class PieceParser {
  readonly #pieces: readonly Piece[];
  #next = 0;

  constructor(pieces: readonly Piece[]) {
    this.#pieces = pieces;
  }

  parse(): unknown {
    const piece = this.#pieces[this.#next++];
    if (piece === undefined) throw new JsonFault('premature EOI');
    if ('fault' in piece) throw new JsonFault(piece.fault);
    if ('value' in piece) return piece.value;
    if (piece.punctuation === '{') return this.#object();
    if (piece.punctuation === '[') return this.#array();
    throw new JsonFault('expecting value');
  }

  #object(): Record<string, unknown> {
    // Without a prototype: a client may name a member `__proto__`.
    const object: Record<string, unknown> = Object.create(null);
    if (this.#accept('}')) return object;
    do {
      const key = this.parse();
      if (typeof key !== 'string') throw new JsonFault('key is not a string in object');
      if (!this.#accept(':')) throw new JsonFault('missing : in object pair');
      const value = this.parse();
      if (key in object) throw new JsonFault('duplicate key');
      object[key] = value;
    } while (this.#accept(','));
    if (!this.#accept('}')) throw new JsonFault('expected separator in dict');
    return object;
  }

  #array(): unknown[] {
    const array: unknown[] = [];
    if (this.#accept(']')) return array;
    do array.push(this.parse());
    while (this.#accept(','));
    if (!this.#accept(']')) throw new JsonFault('expected separator in list');
    return array;
  }

  #accept(text: string): boolean {
    const piece = this.#pieces[this.#next];
    if (piece === undefined || !('punctuation' in piece) || piece.punctuation !== text) return false;
    this.#next++;
    return true;
  }
}
