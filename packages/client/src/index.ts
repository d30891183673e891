export { TidemarkClient } from './client.ts';
export type { ClientOptions } from './connection.ts';
export { type EventQuery, type FollowOptions, followEvents, type Told } from './event-stream.ts';
export {
  LostAnswerFailure,
  type ProblemDocument,
  ProblemFailure,
  RunFailure,
  UnreachableFailure,
} from './failures.ts';
export type { components, paths } from './generated/api.ts';
export { hasEnded, looksAt, requireSuccess } from './run-looks.ts';
export { type RunResults, resultOf } from './run-results.ts';
export type {
  Answer,
  Body,
  Init,
  InitArguments,
  ItemOf,
  ListPath,
  Method,
  Page,
  PathOf,
  Query,
  Schema,
} from './types.ts';
