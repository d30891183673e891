// A reference is an id or a name. Names that look like ids are refused when they are given, so there is
// never a doubt which is meant.
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export function isId(ref: string): boolean {
  return UUID.test(ref);
}

export function byRef(ref: string): { id: string } | { name: string } {
  return isId(ref) ? { id: ref.toLowerCase() } : { name: ref };
}
