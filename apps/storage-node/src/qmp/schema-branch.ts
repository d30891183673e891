// Finds one's way in a schema of options: which part of it speaks of a value.
import { z } from 'zod';

/** Of an alternate, the branch that takes an object. */
export function objectOf(schema: z.ZodType | undefined, value: unknown): z.ZodType | undefined {
  if (!(schema instanceof z.ZodUnion) || schema instanceof z.ZodDiscriminatedUnion) return schema;
  const branches = schema.options.map(option => branchOf(option as z.ZodType, value));
  return branches.find(branch => branch instanceof z.ZodObject);
}

/** Of a union with a discriminator, the branch that the value chooses. */
export function branchOf(schema: z.ZodType | undefined, value: unknown): z.ZodType | undefined {
  const plain = unwrap(schema);
  if (!(plain instanceof z.ZodDiscriminatedUnion)) return plain;
  const name = plain.def.discriminator;
  const chosen = (value as Record<string, unknown> | undefined)?.[name];
  const options = plain.options as readonly z.ZodObject[];
  return options.find(option => (option.shape[name] as z.ZodType).safeParse(chosen).success);
}

export function unwrap(schema: z.ZodType | undefined): z.ZodType | undefined {
  return schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodLazy
    ? unwrap(schema.unwrap() as z.ZodType)
    : schema;
}
