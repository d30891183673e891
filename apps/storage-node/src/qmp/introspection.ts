// `query-qmp-schema`: the commands and their arguments in QAPI's own terms, made of the schemas that check
// them. What commands return is told as `any`: clients ask in order to learn what they may send.
import { z } from 'zod';
import type { QmpCommand } from './command.ts';
import { unwrap } from './schema-branch.ts';

/** QAPI `SchemaInfo`. */
export type SchemaInfo = { readonly name: string; readonly 'meta-type': string } & Record<string, unknown>;

const BUILTINS: Readonly<Record<string, string>> = {
  str: 'string',
  int: 'int',
  bool: 'boolean',
  null: 'null',
  any: 'value',
};

export function describeCommands(commands: Iterable<QmpCommand>): SchemaInfo[] {
  const types = new TypeTable();
  const described = [...commands].map(command => ({
    name: command.name,
    'meta-type': 'command',
    'arg-type': types.nameOf(command.arguments),
    'ret-type': 'any',
  }));
  const builtins = Object.entries(BUILTINS).map(([name, json]) => ({
    name,
    'meta-type': 'builtin',
    'json-type': json,
  }));
  return [...described, ...types.infos, ...builtins];
}

class TypeTable {
  readonly #names = new Map<z.ZodType, string>();
  readonly #infos: (SchemaInfo | undefined)[] = [];

  get infos(): SchemaInfo[] {
    return this.#infos.filter(info => info !== undefined);
  }

  /** Types have numbers for names, as in QEMU: their own names are nobody's business. */
  nameOf(given: z.ZodType): string {
    const schema = unwrap(given)!;
    const builtin = builtinOf(schema);
    if (builtin !== undefined) return builtin;
    const known = this.#names.get(schema);
    if (known !== undefined) return known;
    const index = this.#infos.length;
    const name = String(index);
    // Named before it is looked into: options of block nodes contain themselves.
    this.#names.set(schema, name);
    this.#infos.push(undefined);
    this.#infos[index] = { name, ...this.#describe(schema) } as SchemaInfo;
    return name;
  }

  #describe(schema: z.ZodType): object {
    if (schema instanceof z.ZodEnum) return enumeration(schema.options.map(String));
    if (schema instanceof z.ZodLiteral) return enumeration([...schema.values].map(String));
    if (schema instanceof z.ZodArray) {
      return { 'meta-type': 'array', 'element-type': this.nameOf(schema.element as z.ZodType) };
    }
    if (schema instanceof z.ZodDiscriminatedUnion) return this.#union(schema);
    if (schema instanceof z.ZodUnion) {
      const members = schema.options.map(option => ({ type: this.nameOf(option as z.ZodType) }));
      return { 'meta-type': 'alternate', members };
    }
    if (schema instanceof z.ZodObject) return this.#object(schema.shape);
    throw new Error(`a command's arguments have a ${schema.def.type}, which introspection does not know`);
  }

  #object(shape: Readonly<Record<string, z.ZodType>>): object {
    const members = Object.entries(shape).map(([name, member]) => ({
      name,
      ...(member.safeParse(undefined).success && { default: null }),
      type: this.nameOf(member),
    }));
    return { 'meta-type': 'object', members };
  }

  /** Each branch repeats what is common: a client reads the members of its own. */
  #union(schema: z.ZodDiscriminatedUnion): object {
    const tag = schema.def.discriminator;
    const branches = schema.options as readonly z.ZodObject[];
    const cases = branches.map(branch => String((branch.shape[tag] as z.ZodLiteral).value));
    const tagType = this.nameOf(z.enum(cases as [string, ...string[]]));
    const variants = branches.map((branch, index) => {
      const { [tag]: _, ...members } = branch.shape as Record<string, z.ZodType>;
      return { case: cases[index], type: this.nameOf(z.object(members)) };
    });
    return { 'meta-type': 'object', tag, members: [{ name: tag, type: tagType }], variants };
  }
}

function enumeration(values: readonly string[]): object {
  return { 'meta-type': 'enum', members: values.map(name => ({ name })), values };
}

function builtinOf(schema: z.ZodType): string | undefined {
  if (schema instanceof z.ZodString) return 'str';
  if (schema instanceof z.ZodNumber) return 'int';
  if (schema instanceof z.ZodBoolean) return 'bool';
  if (schema instanceof z.ZodNull) return 'null';
  return schema instanceof z.ZodUnknown || schema instanceof z.ZodAny ? 'any' : undefined;
}
