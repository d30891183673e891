// Names of repositories where answers of the API have ids.
import { ProblemFailure } from '@tidemark/client';
import { at, type Context } from './context.ts';

/** By id; none for programs. What is gone, or not to be seen with this token, keeps its id. */
export async function repositoryNames(
  { client, output }: Pick<Context, 'client' | 'output'>,
  places: readonly { readonly repositoryId: string | null }[],
): Promise<ReadonlyMap<string, string>> {
  const names = new Map<string, string>();
  if (output.isJson) return names;
  for (const id of new Set(places.map(({ repositoryId }) => repositoryId))) {
    if (id === null) continue;
    try {
      names.set(id, (await client.get('/v1/repositories/{repository}', at({ repository: id }))).name);
    } catch (error) {
      if (!(error instanceof ProblemFailure)) throw error;
      names.set(id, id);
    }
  }
  return names;
}
