// The texts and their order are those of qemu-storage-daemon 7.2.
import { expect, test } from 'vitest';
import { z } from 'zod';
import { alternate, int64, parseArguments, uint32 } from './arguments.ts';

const schema = z.strictObject({
  addr: z.discriminatedUnion('type', [
    z.strictObject({ type: z.literal('unix'), data: z.strictObject({ path: z.string() }) }),
    z.strictObject({ type: z.literal('inet'), data: z.strictObject({ port: uint32 }) }),
  ]),
  speed: int64.optional(),
  mode: z.enum(['safe', 'hard']).optional(),
  flag: z.boolean().optional(),
  modes: z.array(z.enum(['a'])).optional(),
  refs: z.array(alternate('NameOrRef', [z.string(), z.strictObject({ name: z.string() })])).optional(),
});
const addr = { type: 'unix', data: { path: 'x' } };

const refusals: [value: unknown, message: string][] = [
  [{}, "Parameter 'addr' is missing"],
  [{ addr: 1 }, "Invalid parameter type for 'addr', expected: object"],
  [{ addr: {} }, "Parameter 'addr.type' is missing"],
  [{ addr: { type: 'x' } }, "Parameter 'type' does not accept value 'x'"],
  [{ addr: { type: 'unix' } }, "Parameter 'addr.data' is missing"],
  [{ addr: { type: 'unix', data: {} } }, "Parameter 'addr.data.path' is missing"],
  [
    { addr: { type: 'unix', data: { path: 1 } } },
    "Invalid parameter type for 'addr.data.path', expected: string",
  ],
  [{ addr: { type: 'unix', data: { path: 'x', y: 1 } } }, "Parameter 'addr.data.y' is unexpected"],
  [{ addr: { type: 'inet', data: { port: -1 } } }, "Parameter 'port' expects uint32_t"],
  [{ addr: { type: 'inet', data: { port: '1' } } }, "Parameter 'addr.data.port' expects uint64"],
  [{ addr, speed: 1.5 }, "Invalid parameter type for 'speed', expected: integer"],
  [{ addr, speed: 2n ** 63n }, "Invalid parameter type for 'speed', expected: integer"],
  [{ addr, mode: 'x' }, "Parameter 'mode' does not accept value 'x'"],
  [{ addr, mode: 1 }, "Invalid parameter type for 'mode', expected: string"],
  [{ addr, flag: 'on' }, "Invalid parameter type for 'flag', expected: boolean"],
  [{ addr, modes: {} }, "Invalid parameter type for 'modes', expected: array"],
  [{ addr, modes: ['x'] }, "Parameter 'null' does not accept value 'x'"],
  [{ addr, modes: [1] }, "Invalid parameter type for 'modes[0]', expected: string"],
  [{ addr, refs: [1] }, "Invalid parameter type for 'null', expected: NameOrRef"],
  [{ addr, refs: ['a', {}] }, "Parameter 'refs[1].name' is missing"],
  [{ addr, x: 1 }, "Parameter 'x' is unexpected"],
  // What is wrong in a member comes before what nobody asked for.
  [{ x: 1, addr, flag: 1 }, "Invalid parameter type for 'flag', expected: boolean"],
];
test.each(refusals)('%o is refused', (value, message) => {
  expect(() => parseArguments(schema, value)).toThrow(message);
});

test('what is right comes out, integers beyond what a number holds as the largest', () => {
  expect(parseArguments(schema, { addr, speed: 2n ** 63n - 1n })).toEqual({
    addr,
    speed: Number.MAX_SAFE_INTEGER,
  });
});
