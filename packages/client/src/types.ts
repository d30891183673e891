// Types of requests and answers, read off the generated description of the API.
import type { FetchResponse, MaybeOptionalInit } from 'openapi-fetch';
import type { MediaType, PathsWithMethod, RequiredKeysOf } from 'openapi-typescript-helpers';
import type { components, paths } from './generated/api.ts';

export type Method = 'get' | 'post' | 'patch' | 'put' | 'delete';

/** Paths of the API that have the method, as templates: /v1/volumes/{volume}. */
export type PathOf<M extends Method> = PathsWithMethod<paths, M>;

/** Path parameters, query and body; may be left out where nothing of it is required. */
export type Init<P extends PathOf<M>, M extends Method> = MaybeOptionalInit<paths[P], M>;
export type InitArguments<P extends PathOf<M>, M extends Method> =
  RequiredKeysOf<Init<P, M>> extends never ? [init?: Init<P, M>] : [init: Init<P, M>];

/** What a call is answered with when it goes well. */
export type Answer<P extends PathOf<M>, M extends Method, Type extends MediaType = 'application/json'> =
  paths[P][M] extends Record<string | number, unknown>
    ? NonNullable<FetchResponse<paths[P][M], object, Type>['data']>
    : never;

/** The query of a GET, such as `Query<'/v1/volumes'>`. */
export type Query<P extends PathOf<'get'>> = paths[P] extends { get: { parameters: { query?: infer Q } } }
  ? NonNullable<Q>
  : never;

/** The body of a POST or a PATCH. */
export type Body<P extends PathOf<M>, M extends 'post' | 'patch'> = NonNullable<
  Init<P, M> extends { body?: infer B } ? B : never
>;

/** Lists that come in pages. */
export type ListPath = {
  [P in PathOf<'get'>]: Answer<P, 'get'> extends { items: unknown[]; nextCursor: string | null } ? P : never;
}[PathOf<'get'>];
export type ItemOf<P extends ListPath> = Answer<P, 'get'> extends { items: (infer T)[] } ? T : never;

export interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

/** A noun of the API by its name, such as `Schema<'Volume'>`. */
export type Schema<Name extends keyof components['schemas']> = components['schemas'][Name];
