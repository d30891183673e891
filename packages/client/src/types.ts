// Types of requests and answers, read off the generated description of the API.
import type { FetchResponse, MaybeOptionalInit } from 'openapi-fetch';
import type { MediaType, PathsWithMethod, RequiredKeysOf } from 'openapi-typescript-helpers';
import type { components, paths } from './generated/api.ts';

export type Method = 'get' | 'post' | 'patch' | 'put' | 'delete';

/** Paths of the API that have the method, as templates: /v1/volumes/{volume}. */
export type PathOf<M extends Method> = PathsWithMethod<paths, M>;

/** Path parameters, query and body; may be left out where nothing of it is required. */
export type Init<P extends PathOf<M>, M extends Method> = MaybeOptionalInit<paths[P], M>;
export type InitArguments<I> = RequiredKeysOf<I> extends never ? [init?: I] : [init: I];

/** What a call is answered with when it goes well. */
export type Answer<P extends PathOf<M>, M extends Method> =
  paths[P][M] extends Record<string | number, unknown>
    ? NonNullable<FetchResponse<paths[P][M], object, MediaType>['data']>
    : never;

/** Lists that come in pages. */
export type ListPath = {
  [P in PathOf<'get'>]: Answer<P, 'get'> extends { items: unknown[]; nextCursor: string | null } ? P : never;
}[PathOf<'get'>];
export type ItemOf<P extends ListPath> = Answer<P, 'get'> extends { items: (infer T)[] } ? T : never;

/** A noun of the API by its name, such as `Schema<'Volume'>`. */
export type Schema<Name extends keyof components['schemas']> = components['schemas'][Name];
