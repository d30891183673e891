// `key=value,…` and JSON by a schema; the texts are those of qemu-storage-daemon 7.2.
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { alternate, int64, uint32 } from './arguments.ts';
import { parseKeyValues } from './key-values.ts';
import { parseOptionValue } from './option-values.ts';

const reference = alternate('BlockdevRef', [
  z.string(),
  z.discriminatedUnion('driver', [z.strictObject({ driver: z.literal('null-co'), size: int64.optional() })]),
]);
const schema = z.discriminatedUnion('driver', [
  z.strictObject({
    driver: z.literal('null-co'),
    size: int64.optional(),
    'read-only': z.boolean().optional(),
  }),
  z.strictObject({
    driver: z.literal('raw'),
    file: reference,
    limits: z.strictObject({ max: uint32.optional() }).optional(),
    bitmaps: z.array(z.string()).optional(),
  }),
]);

describe('key=value', () => {
  test('dots make objects, indexes make lists, a doubled comma is one', () => {
    expect(parseKeyValues('x,a.b=1,a.c=,,2,list.1=y,list.0.z=x,a.b=3,', 'first')).toEqual({
      first: 'x',
      a: { b: '3', c: ',2' },
      list: [{ z: 'x' }, 'y'],
    });
    expect(parseKeyValues('', 'first')).toEqual({});
  });

  const refusals: [text: string, message: string][] = [
    ['x,y', "Expected '=' after parameter 'y'"],
    ['x,=a', "Invalid parameter ''"],
    [',', "Invalid parameter ''"],
    ['a b=c', "Invalid parameter 'a b'"],
    ['1a=c', "Invalid parameter '1a'"],
    ['a.=c', "Invalid parameter 'a.'"],
    [`${'a'.repeat(128)}=c`, `Invalid parameter '${'a'.repeat(128)}'`],
    ['a.b=1,a.b.c=2', "Parameters 'a.b.*' used inconsistently"],
    ['a.b.c=2,a.b=1', "Parameters 'a.b.*' used inconsistently"],
    ['a.0=1,a.b=2', "Parameters 'a.*' used inconsistently"],
    ['a.1=1', "Parameter 'a.0' missing"],
    ['help', 'Help is not available for this option'],
    ['x,help', 'Help is not available for this option'],
  ];
  test.each(refusals)('%j is refused', (text, message) => {
    expect(() => parseKeyValues(text, 'first')).toThrow(message);
  });
});

describe('values', () => {
  test('become what the schema wants', () => {
    expect(parseOptionValue(schema, 'null-co,size=0x1000,read-only=yes', 'driver')).toEqual({
      driver: 'null-co',
      size: 4096,
      'read-only': true,
    });
    expect(parseOptionValue(schema, 'null-co,size=010', 'driver')).toMatchObject({ size: 8 });
    const raw = 'raw,file.driver=null-co,file.size=7,limits.max=3,bitmaps.0=on';
    expect(parseOptionValue(schema, raw, 'driver')).toEqual({
      driver: 'raw',
      file: { driver: 'null-co', size: 7 },
      limits: { max: 3 },
      bitmaps: ['on'],
    });
    expect(parseOptionValue(schema, 'raw,file=on', 'driver')).toMatchObject({ file: 'on' });
  });

  test('in JSON have their types', () => {
    expect(parseOptionValue(schema, "{'driver':'null-co','size':5}", 'driver')).toMatchObject({ size: 5 });
  });

  const refusals: [text: string, message: string][] = [
    ['zzz', "Parameter 'driver' does not accept value 'zzz'"],
    ['size=1', "Parameter 'driver' is missing"],
    ['null-co,size=abc', "Parameter 'size' expects integer"],
    ['null-co,size=', "Parameter 'size' expects integer"],
    ['null-co,size=1k', "Parameter 'size' expects integer"],
    ['null-co,read-only=maybe', "Parameter 'read-only' expects 'on' or 'off'"],
    ['null-co,foo=1', "Parameter 'foo' is unexpected"],
    ['raw,file.driver=null-co,file.foo=1', "Parameter 'file.foo' is unexpected"],
    ['raw,file.driver=null-co,file.size=x', "Parameter 'file.size' expects integer"],
    ['raw,file=a,limits=on', "Invalid parameter type for 'limits', expected: object"],
    ['raw,file=a,limits.max=-1', "Parameter 'max' expects uint32_t"],
    ['{"driver":"null-co"', 'JSON parse error, premature EOI'],
    ['{"driver":"null-co"} x', 'Expecting at most one JSON value'],
    ['{"driver":"null-co"}{', 'Expecting at most one JSON value'],
    ['{"driver":"null-co","size":"5"}', "Invalid parameter type for 'size', expected: integer"],
    ['{"driver"}', 'JSON parse error, missing : in object pair'],
  ];
  test.each(refusals)('%j is refused', (text, message) => {
    expect(() => parseOptionValue(schema, text, 'driver')).toThrow(message);
  });
});
