// The monitor's JSON: what qemu-storage-daemon makes of each input, and a seeded fuzz against JSON.parse.
import { SeededRandom } from '@tidemark/engine/testing';
import { describe, expect, test } from 'vitest';
import { MONITOR_DEPTH_MAX, MONITOR_TOKEN_BYTES_MAX, MONITOR_TOKENS_MAX } from '../limits.ts';
import { type JsonInput, JsonStream, WholeDouble } from './json-stream.ts';

function feed(...chunks: (string | Buffer)[]): JsonInput[] {
  const stream = new JsonStream();
  return chunks.flatMap(chunk => [...stream.feed(Buffer.from(chunk))]);
}

/** Values as they are, faults as text. */
function summary(...chunks: (string | Buffer)[]): unknown[] {
  return feed(...chunks).map(input =>
    'error' in input ? input.error.replace('JSON parse error, ', '') : input.value,
  );
}

describe('values', () => {
  test('need no separator, and come when they are whole', () => {
    expect(summary('{"a":[1,2', ',{}]}{"b":nu', 'll}[]"x"\'y\'')).toEqual([
      { a: [1, 2, {}] },
      { b: null },
      [],
      'x',
      'y',
    ]);
  });

  test('numbers and keywords end with what follows them', () => {
    expect(summary('12', '3')).toEqual([]);
    expect(summary('12', '3 ', 'tru', 'e', '\n')).toEqual([123, true]);
    expect(summary('-0.5e+2 0 1')).toEqual([new WholeDouble(-50), 0]);
  });

  test('integers that a number cannot hold are exact, up to 64 bits', () => {
    expect(
      summary('9007199254740993 18446744073709551615 -9223372036854775808 18446744073709551616 '),
    ).toEqual([9007199254740993n, 18446744073709551615n, -9223372036854775808n, 18446744073709552000]);
  });

  test('members may have any name', () => {
    const [input] = feed('{"__proto__":{"a":1}}');
    const { value } = input as { value: object };
    expect(Object.keys(value)).toEqual(['__proto__']);
    expect((value as { a?: unknown }).a).toBeUndefined();
  });

  test('characters may be cut in the middle', () => {
    const bytes = Buffer.from('"é€😀\\u00e9\\ud83d\\ude00\\t"');
    const stream = new JsonStream();
    const inputs = [...bytes].flatMap(byte => [...stream.feed(Buffer.of(byte))]);
    expect(inputs).toEqual([{ value: 'é€😀é😀\t' }]);
  });
});

describe('faults', () => {
  const cases: [input: string | Buffer, ...results: unknown[]][] = [
    ['{"a":1,} ', 'expecting value'],
    ['{1:2}', 'key is not a string in object'],
    ['{"a" 1}', 'missing : in object pair'],
    ['{"a":1 "b":2}', 'expected separator in dict'],
    ['[1 2]', 'expected separator in list'],
    ['{"a":1,"a":2}', 'duplicate key'],
    ['{tru:1}', "invalid keyword 'tru'"],
    ['}', 'expecting value'],
    ['[[}]]', 'expecting value', 'expecting value', 'expecting value'],
    ['"\\q"', 'invalid escape sequence in string'],
    ['"\\u12xyz"', '\\u12xy is not a valid Unicode character'],
    ['"\\ud800abc"', '\\ud800 is not a valid Unicode character'],
    ['"\\ud83f\\udfff"', '\\ud83f\\udfff is not a valid Unicode character'],
    [Buffer.from('"\xe2\x82"', 'latin1'), 'invalid UTF-8 sequence in string'],
    ['@ 1 [] ', "stray '@'", []],
    ['@ 1\n2 ', "stray '@'", 2],
    ['01 2 , 3 ', "stray '01'", 'expecting value', 3],
    ['"a\nb"} 1 ', "stray '\"a\n'", 'expecting value', 1],
    ['\0 1\n1 ', "stray ''", 1],
    ['-x\n1 ', "stray '-x'", 1],
    ['1.x\n1 ', "stray '1.x'", 1],
  ];

  test.each(cases)('%j', (input, ...results) => {
    expect(summary(input)).toEqual(results);
  });

  test('what is nested too deeply is refused, and reading goes on', () => {
    const deep = '['.repeat(MONITOR_DEPTH_MAX);
    expect(summary(`${deep}${']'.repeat(MONITOR_DEPTH_MAX)}`)).toHaveLength(1);
    expect(summary(`${deep}[`, '\0\n1 ')).toEqual(['JSON nesting depth limit exceeded', "stray ''", 1]);
  });

  test('a token without an end is refused once it is too long, and its rest passed over', () => {
    const stream = new JsonStream();
    const chunk = Buffer.alloc(1024 * 1024, 'x');
    const inputs = [...stream.feed(Buffer.from('"'))];
    for (let sent = 0; sent <= MONITOR_TOKEN_BYTES_MAX; sent += chunk.length) {
      inputs.push(...stream.feed(chunk));
    }
    expect(inputs).toEqual([{ error: 'JSON token size limit exceeded' }]);
    expect([...stream.feed(Buffer.from('"\n1 '))]).toEqual([{ value: 1 }]);
  });

  test('a value of too many tokens is refused', () => {
    const [first] = feed(`[${'1,'.repeat(MONITOR_TOKENS_MAX)}`);
    expect(first).toEqual({ error: 'JSON token count limit exceeded' });
  });
});

describe('fuzz', () => {
  const SEEDS = 300;

  test('whatever JSON.parse reads is read the same, in chunks of any size', () => {
    for (let seed = 0; seed < SEEDS; seed++) {
      const random = new SeededRandom(seed);
      const value = randomValue(random, 0);
      const text = Buffer.from(`${JSON.stringify(value)} `);
      const stream = new JsonStream();
      const inputs: JsonInput[] = [];
      for (let at = 0; at < text.length; ) {
        const length = 1 + random.int(0, 8);
        inputs.push(...stream.feed(text.subarray(at, at + length)));
        at += length;
      }
      expect(inputs, `seed ${seed}`).toEqual([{ value }]);
    }
  });

  test('after any garbage, a line end and a bracket that ends what was open, values are read again', () => {
    const alphabet = '{}[]:,"\'\\u0019.eE+-tfn@ \n\0\x7f\xff';
    for (let seed = 0; seed < SEEDS; seed++) {
      const random = new SeededRandom(seed);
      const garbage = Array.from(
        { length: random.int(0, 59) },
        () => alphabet[random.int(0, alphabet.length - 1)],
      ).join('');
      // A zero byte ends every token; the fault it makes forgets whatever was open.
      const results = feed(Buffer.from(`${garbage}\0\n{"execute":"x"}`, 'latin1'));
      expect(results.at(-1), `seed ${seed}: ${JSON.stringify(garbage)}`).toEqual({ value: { execute: 'x' } });
    }
  });
});

function randomValue(random: SeededRandom, depth: number): unknown {
  switch (random.int(0, depth > 4 ? 4 : 6)) {
    case 0:
      return random.int(0, 1) === 0;
    case 1:
      return null;
    case 2:
      return random.int(0, 2 ** 31 - 1) - 2 ** 30;
    case 3:
      return (random.int(0, 2 ** 31 - 1) - 2 ** 30) / 1024;
    case 4:
      return randomText(random);
    case 5:
      return Array.from({ length: random.int(0, 4) }, () => randomValue(random, depth + 1));
    default:
      return Object.fromEntries(
        Array.from({ length: random.int(0, 4) }, (_, i) => [
          `${i}${randomText(random)}`,
          randomValue(random, depth + 1),
        ]),
      );
  }
}

function randomText(random: SeededRandom): string {
  const characters = ['a', '"', "'", '\\', '\n', 'é', '€', '😀', '{', ':', '/', '\u0001'];
  return Array.from(
    { length: random.int(0, 5) },
    () => characters[random.int(0, characters.length - 1)],
  ).join('');
}
