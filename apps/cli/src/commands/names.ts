// Names of repositories and storage nodes where answers of the API have ids.
import { ProblemFailure } from '@tidemark/client';
import { at, type Context } from './context.ts';

type Asking = Pick<Context, 'client' | 'output'>;

/** By id; none for programs. What is gone, or not to be seen with this token, keeps its id. */
export function repositoryNames(
  context: Asking,
  places: readonly { readonly repositoryId: string | null }[],
): Promise<ReadonlyMap<string, string>> {
  const ids = places.flatMap(({ repositoryId: id }) => (id === null ? [] : [id]));
  return namesOf(context, ids, id =>
    context.client.get('/v1/repositories/{repository}', at({ repository: id })),
  );
}

/** As above. */
export const storageNodeNames = (
  context: Asking,
  ids: readonly string[],
): Promise<ReadonlyMap<string, string>> =>
  namesOf(context, ids, id => context.client.get('/v1/storage-nodes/{storageNode}', at({ storageNode: id })));

async function namesOf(
  { output }: Asking,
  ids: readonly string[],
  ask: (id: string) => Promise<{ name: string }>,
): Promise<ReadonlyMap<string, string>> {
  const names = new Map<string, string>();
  if (output.isJson) return names;
  for (const id of new Set(ids)) {
    try {
      names.set(id, (await ask(id)).name);
    } catch (error) {
      if (!(error instanceof ProblemFailure)) throw error;
      names.set(id, id);
    }
  }
  return names;
}
