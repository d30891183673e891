// Building blocks of every request and answer: names, ids, references, sizes, moments and pages.
import { isId } from '@tidemark/catalog';
import {
  LABEL_KEY_PATTERN,
  LABEL_VALUE_PATTERN,
  LABELS_MAX,
  type Labels,
  labelsFault,
  parseSelector,
  SELECTOR_CHARACTERS_MAX,
} from '@tidemark/proto';
import { z } from 'zod';
import {
  CONCURRENT_BACKUPS_MAX,
  DESCRIPTION_CHARACTERS_MAX,
  PAGE_ITEMS_DEFAULT,
  PAGE_ITEMS_MAX,
} from '../limits.ts';

const NAME_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$';
const NAME = new RegExp(NAME_PATTERN);
const NAME_CHARACTERS_MAX = 64;

/** The catalog cannot hold all of them, and no name has one. */
const HAS_CONTROL_CHARACTER = /\p{Cc}/u;

const quoted = (text: unknown) => JSON.stringify(text);

/** References are ids or names, so a name never looks like an id. */
function nameFault(text: string): string {
  if (text === '') return 'is empty';
  if (isId(text)) return `is ${quoted(text)}, which looks like an id`;
  if (text.length > NAME_CHARACTERS_MAX) return `has ${text.length} characters`;
  return `is ${quoted(text)}, which begins with or holds a character that a name cannot have`;
}

export const nameField = z
  .string()
  .refine(text => NAME.test(text) && !isId(text), {
    error: issue =>
      `${nameFault(String(issue.input))}; send 1 to 64 letters, digits, '-', '_' or '.', ` +
      'beginning with a letter or digit',
    params: { problem: 'invalid-name' },
  })
  .meta({
    pattern: NAME_PATTERN,
    description:
      "1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or digit; not in the form of an id.",
  });

export const idField = z.uuid();
export const momentField = z.iso.datetime().meta({ examples: ['2026-11-21T08:00:00.000Z'] });
/** Ids of the examples: one story through all schemas. */
export const EXAMPLE_IDS = {
  storageNode: '0b6f3d5e-52a1-4d1c-8f5e-0c8f0b9c7a01',
  volume: '5d0c0a3e-3f4b-4a57-9a3d-7f8f6f1b2c02',
  checkpoint: '9a1f6c2d-7b5e-4e3a-8c4d-2e1f0a9b8c03',
  repository: 'c3e2d1f0-1a2b-4c3d-9e4f-5a6b7c8d9e04',
  backup: 'e7f8a9b0-2c3d-4e5f-8a6b-7c8d9e0f1a05',
  snapshot: 'a4b5c6d7-8e9f-4a0b-8c1d-2e3f4a5b6c07',
  commit: 'b8c9d0e1-3f4a-4b5c-9d6e-7f8a9b0c1d08',
  group: 'c9d0e1f2-4a5b-4c6d-8e7f-8a9b0c1d2e0a',
  run: 'f1e2d3c4-4b5a-4d6c-9e7f-8a9b0c1d2e06',
  policy: '2d3e4f50-6a7b-4c8d-9e0f-1a2b3c4d5e21',
  firing: '3e4f5061-7b8c-4d9e-8f0a-2b3c4d5e6f22',
} as const;
export const EXAMPLE_MOMENT = '2026-11-21T08:00:00.000Z';

export const bytesField = z.int().min(0);
export const extentSchema = z
  .object({ offset: bytesField, length: z.int().min(1) })
  .meta({ id: 'Extent', examples: [{ offset: 65_536, length: 131_072 }] });

/** Of a job, as a request asks for it. */
export const speedField = z
  .int()
  .min(1)
  .optional()
  .meta({ description: 'Most bytes per second; no limit by default.' });

export const descriptionField = z
  .string()
  .max(DESCRIPTION_CHARACTERS_MAX)
  .meta({ description: `Any text of up to ${DESCRIPTION_CHARACTERS_MAX} characters.` });

/** An id or a name of something that exists; its syntax is judged by looking it up. */
export const refField = z
  .string()
  .min(1)
  .max(64)
  .refine(text => !HAS_CONTROL_CHARACTER.test(text), {
    // As JSON, so that the answer shows them.
    error: issue => `is ${quoted(issue.input)}, which holds a control character; send an id or a name`,
  });

export const ref = (noun: string) => refField.meta({ description: `Id or name of the ${noun}.` });

export const labelsField = z
  .record(z.string(), z.string())
  .refine(labels => labelsFault(labels as Labels) === null, {
    error: issue => String(labelsFault(issue.input as Labels)),
  })
  .meta({
    propertyNames: { pattern: `^${LABEL_KEY_PATTERN}$` },
    additionalProperties: { type: 'string', pattern: `^${LABEL_VALUE_PATTERN}$` },
    maxProperties: LABELS_MAX,
    description: `Up to ${LABELS_MAX} keys with values, for selectors to choose by.`,
    examples: [{ app: 'web', tier: 'gold' }],
  });

/** Of all policies together. */
export const concurrentBackupsField = z.int().min(1).max(CONCURRENT_BACKUPS_MAX).meta({
  description: 'Backups at the same time, whoever asked for them, until those of policies wait.',
});

export const NO_CHANGE = 'changes nothing; send at least one field';
export const hasChange = (body: object): boolean => Object.values(body).some(value => value !== undefined);

/** One page of a list. */
export function pageOf<T extends z.ZodType>(item: T, id: string) {
  return z
    .object({
      items: z.array(item),
      nextCursor: z
        .string()
        .nullable()
        .meta({ description: 'Give it back as `cursor` for the next page; null on the last page.' }),
    })
    .meta({ id });
}

export const limitField = z.coerce
  .number()
  .int()
  .min(1)
  .max(PAGE_ITEMS_MAX)
  .default(PAGE_ITEMS_DEFAULT)
  .meta({ description: `Most items of the page, 1 to ${PAGE_ITEMS_MAX}.` });

export const pageQuery = z.strictObject({
  limit: limitField,
  cursor: z.string().min(1).max(512).optional().meta({ description: '`nextCursor` of the page before.' }),
});

export const selectorField = z
  .string()
  .max(SELECTOR_CHARACTERS_MAX)
  .optional()
  .meta({
    description:
      'Only what has labels like these: terms joined by commas, of which all must hold: `key=value`, `key!=value`, ' +
      '`key in (a,b)`, `key notin (a,b)`, `key`, `!key`.',
    examples: ['app=web,tier in (gold,silver)'],
  });

/** Of lists that can be narrowed by name. */
export const namedPageQuery = pageQuery.extend({
  name: refField.optional().meta({ description: 'Only those whose name holds this.' }),
});

/** Of lists that can be narrowed by labels. */
export const chosenPageQuery = namedPageQuery.extend({ selector: selectorField });

export const enabledFilter = z
  .enum(['true', 'false'])
  .transform(value => value === 'true')
  .optional()
  .meta({ description: 'true: only what is switched on; false: only what is not.' });

export type PageQuery = z.output<typeof pageQuery>;
export type ChosenPageQuery = z.output<typeof chosenPageQuery> & { state?: string | undefined };
/** Of what is on a storage node. */
export type PlacedPageQuery = ChosenPageQuery & { storageNode?: string | undefined };

/** For the catalog, which takes selectors as they are read. Throws `invalid-request`. */
export function chosenPage<Q extends ChosenPageQuery>({ selector, ...page }: Q) {
  return { ...page, selector: selector === undefined ? undefined : parseSelector(selector) };
}
