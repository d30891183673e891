export { type ClientOptions, TidemarkClient } from './client.ts';
export { type ProblemDocument, ProblemFailure, UnreachableFailure } from './failures.ts';
export type { components, paths } from './generated/api.ts';
export type { Answer, Init, ItemOf, ListPath, Method, PathOf, Schema } from './types.ts';
