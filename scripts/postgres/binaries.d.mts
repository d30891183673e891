/** The folder `native` of this machine's platform package, with all links made; throws when it is not installed. */
export function nativeFolder(): string;
