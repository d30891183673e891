// How each part of a scripted storage node answers calls: by the name of the method.

/** gRPC has decoded the request, each method its own type. */
// biome-ignore lint/suspicious/noExplicitAny: one table for requests of every type
export type Handler = (request: any) => unknown;

export type Handlers = Record<string, Handler>;
