// Looks at all that a list of the catalog holds, page by page: what is wrong with one keeps nobody from the others.
import { toTidemarkError } from './errors.ts';

/**
 * At one after the other. Rejects with the first failure, which names what it is about, once all were looked at; at
 * once while the catalog does not answer.
 */
export async function lookAtEach<T extends { readonly name: string }>(
  pages: AsyncIterable<readonly T[]> | Iterable<readonly T[]>,
  look: (item: T) => Promise<void>,
): Promise<void> {
  let first: Error | undefined;
  for await (const items of pages) {
    for (const item of items) {
      try {
        await look(item);
      } catch (error) {
        if (toTidemarkError(error).code === 'catalog-unavailable') throw error;
        first ??= new Error(`'${item.name}' could not be looked at`, { cause: error });
      }
    }
  }
  if (first !== undefined) throw first;
}
