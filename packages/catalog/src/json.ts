// What goes into a column of JSON: moments as texts, and nothing that is undefined.
import type { Prisma } from './generated/client.ts';

export const json = (value: unknown) => JSON.parse(JSON.stringify(value)) as Prisma.InputJsonObject;
