// Cuts a byte stream into JSON values as QEMU's monitor does: values need no separator, strings may stand in
// single quotes, and after a fault reading goes on with the next token.

export type JsonInput = { readonly value: unknown } | { readonly error: string };

/** Bounds of one value, QEMU's own. */
const VALUE_BYTES_MAX = 64 * 1024 * 1024;
const TOKENS_MAX = 2 * 1024 * 1024;
const DEPTH_MAX = 1024;

type TokenKind = 'punctuation' | 'string' | 'number' | 'keyword';

interface Token {
  readonly kind: TokenKind;
  readonly text: string;
}

class JsonFault extends Error {}

/** A token at the start of the text; sticky, so that scanning costs no copies. */
const TOKEN =
  /[{}[\]:,]|"(?:[^"\\\p{Cc}]|\\.)*"|'(?:[^'\\\p{Cc}]|\\.)*'|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|[a-zA-Z]+/uy;
/** What may still become a token when more bytes come. */
const UNFINISHED = /"(?:[^"\\\p{Cc}]|\\.)*\\?$|'(?:[^'\\\p{Cc}]|\\.)*\\?$|-?[0-9.eE+-]*$|[a-zA-Z]+$/uy;
const SPACE = /[ \t\r\n]+/y;

export class JsonStream {
  readonly #decoder = new TextDecoder('utf-8');
  #rest = '';
  #tokens: Token[] = [];
  #characters = 0;
  #depth = 0;

  /** The values that the bytes complete, and the faults among them, in order. */
  *feed(bytes: Uint8Array): Generator<JsonInput> {
    this.#rest += this.#decoder.decode(bytes, { stream: true });
    let at = 0;
    while (at < this.#rest.length) {
      SPACE.lastIndex = at;
      if (SPACE.test(this.#rest)) {
        at = SPACE.lastIndex;
        continue;
      }
      const token = this.#tokenAt(at);
      if (token === undefined) break;
      at += token.text.length;
      const input = token.fault === undefined ? this.#take(token) : this.#fault(token.fault);
      if (input !== undefined) yield input;
    }
    this.#rest = this.#rest.slice(at);
    if (this.#rest.length > VALUE_BYTES_MAX) {
      this.#rest = '';
      yield this.#fault('JSON token size limit exceeded');
    }
  }

  /** Undefined where the rest may be the beginning of a token. */
  #tokenAt(at: number): (Token & { fault?: string }) | undefined {
    TOKEN.lastIndex = at;
    const text = TOKEN.exec(this.#rest)?.[0];
    if (text !== undefined) {
      const kind = kindOf(text[0]!);
      const mayGoOn = (kind === 'number' || kind === 'keyword') && at + text.length === this.#rest.length;
      return mayGoOn ? undefined : { kind, text };
    }
    UNFINISHED.lastIndex = at;
    if (UNFINISHED.test(this.#rest)) return undefined;
    const stray = String.fromCodePoint(this.#rest.codePointAt(at)!);
    return { kind: 'punctuation', text: stray, fault: `JSON parse error, stray '${stray}'` };
  }

  #take(token: Token): JsonInput | undefined {
    this.#tokens.push(token);
    this.#characters += token.text.length;
    if (token.text === '{' || token.text === '[') this.#depth++;
    if (token.text === '}' || token.text === ']') this.#depth--;
    if (this.#characters > VALUE_BYTES_MAX) return this.#fault('JSON token size limit exceeded');
    if (this.#tokens.length > TOKENS_MAX) return this.#fault('JSON token count limit exceeded');
    if (this.#depth > DEPTH_MAX) return this.#fault('JSON nesting depth limit exceeded');
    if (this.#depth > 0) return undefined;
    const tokens = this.#tokens;
    this.#reset();
    try {
      return { value: new TokenParser(tokens).parse() };
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
    this.#tokens = [];
    this.#characters = 0;
    this.#depth = 0;
  }
}

function kindOf(first: string): TokenKind {
  if ('{}[]:,'.includes(first)) return 'punctuation';
  if (first === '"' || first === "'") return 'string';
  return /[a-zA-Z]/.test(first) ? 'keyword' : 'number';
}

class TokenParser {
  readonly #tokens: readonly Token[];
  #next = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  parse(): unknown {
    return this.#value();
  }

  #value(): unknown {
    const token = this.#tokens[this.#next++];
    if (token === undefined) throw new JsonFault('premature EOI');
    switch (token.kind) {
      case 'string':
        return unquote(token.text);
      case 'number':
        return Number(token.text);
      case 'keyword':
        return keyword(token.text);
      case 'punctuation':
        if (token.text === '{') return this.#object();
        if (token.text === '[') return this.#array();
        throw new JsonFault('expecting value');
    }
  }

  #object(): Record<string, unknown> {
    // Without a prototype: a client may name a member `__proto__`.
    const object: Record<string, unknown> = Object.create(null);
    if (this.#accept('}')) return object;
    do {
      const token = this.#tokens[this.#next++];
      if (token === undefined) throw new JsonFault('premature EOI');
      if (token.kind !== 'string') throw new JsonFault('key is not a string in object');
      const key = unquote(token.text);
      if (!this.#accept(':')) throw new JsonFault('missing : in object pair');
      const value = this.#value();
      if (key in object) throw new JsonFault('duplicate key');
      object[key] = value;
    } while (this.#accept(','));
    if (!this.#accept('}')) throw new JsonFault('expected separator in dict');
    return object;
  }

  #array(): unknown[] {
    const array: unknown[] = [];
    if (this.#accept(']')) return array;
    do array.push(this.#value());
    while (this.#accept(','));
    if (!this.#accept(']')) throw new JsonFault('expected separator in list');
    return array;
  }

  #accept(text: string): boolean {
    const token = this.#tokens[this.#next];
    if (token?.kind !== 'punctuation' || token.text !== text) return false;
    this.#next++;
    return true;
  }
}

function keyword(text: string): boolean | null {
  if (text === 'true') return true;
  if (text === 'false') return false;
  if (text === 'null') return null;
  throw new JsonFault(`invalid keyword '${text}'`);
}

const ESCAPES: Readonly<Record<string, string>> = {
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  '"': '"',
  "'": "'",
  '\\': '\\',
  '/': '/',
};

function unquote(quoted: string): string {
  return quoted.slice(1, -1).replace(/\\(u[0-9a-fA-F]{4}|[\s\S])/gu, (whole, code: string) => {
    if (code.length === 5) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
    const plain = ESCAPES[code];
    if (plain === undefined) throw new JsonFault(`invalid escape sequence '${whole}' in string`);
    return plain;
  });
}
