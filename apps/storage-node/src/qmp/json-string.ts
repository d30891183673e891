// What a quoted JSON string stands for; faults are worded as QEMU's monitor words them.

/** A value that is not JSON; the message goes behind `JSON parse error, `. */
export class JsonFault extends Error {}

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
const HEX4 = /^[0-9a-fA-F]{4}$/;
const NO_CHARACTER = /[\p{Noncharacter_Code_Point}\p{Cs}]/u;
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @param quoted the token with its quotes. Throws `JsonFault`. */
export function unquote(quoted: Buffer): string {
  const text = decode(quoted);
  let plain = '';
  let at = 1;
  for (;;) {
    const backslash = text.indexOf('\\', at);
    if (backslash < 0) return plain + text.slice(at, -1);
    plain += text.slice(at, backslash);
    const code = text[backslash + 1]!;
    if (code === 'u') {
      const { character, length } = unicodeEscape(text, backslash);
      plain += character;
      at = backslash + length;
      continue;
    }
    const character = ESCAPES[code];
    if (character === undefined) throw new JsonFault('invalid escape sequence in string');
    plain += character;
    at = backslash + 2;
  }
}

/** Characters that Unicode sets aside are refused as broken sequences are. */
function decode(bytes: Buffer): string {
  try {
    const text = decoder.decode(bytes);
    if (!NO_CHARACTER.test(text)) return text;
  } catch {
    // Falls through: it is told in the same words.
  }
  throw new JsonFault('invalid UTF-8 sequence in string');
}

/** `\uXXXX`, or two of them for a character that needs both. */
function unicodeEscape(text: string, at: number): { character: string; length: number } {
  const invalid = (length: number) =>
    new JsonFault(`${text.slice(at, at + length)} is not a valid Unicode character`);
  const first = text.slice(at + 2, at + 6);
  if (!HEX4.test(first)) throw invalid(6);
  let character = String.fromCharCode(Number.parseInt(first, 16));
  let length = 6;
  const second = text.slice(at + 8, at + 12);
  if (/[\ud800-\udbff]/.test(character) && text.startsWith('\\u', at + 6) && HEX4.test(second)) {
    const pair = character + String.fromCharCode(Number.parseInt(second, 16));
    if (pair.codePointAt(0)! > 0xffff) [character, length] = [pair, 12];
  }
  if (NO_CHARACTER.test(character)) throw invalid(length);
  return { character, length };
}
