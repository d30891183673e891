// Metadata contexts: which of an export's contexts a query means, and in what form their status is sent.
// Section "Metadata querying".
import type { StatusExtent } from './export.ts';
import { STATUS_EXTENTS_MAX } from './limits.ts';

/** A context that a client selected, and the number under which its status is sent. */
export interface SelectedContext {
  readonly name: string;
  readonly id: number;
}

/**
 * Contexts that match LIST_META_CONTEXT's queries, each once and in the export's order. No query means all; a
 * query that ends in `:` stands for everything that begins with it.
 */
export function listContexts(available: readonly string[], queries: readonly string[]): string[] {
  if (queries.length === 0) return [...available];
  const wanted = new Set(queries);
  const prefixes = [...wanted].filter(query => query.endsWith(':'));
  return available.filter(name => wanted.has(name) || prefixes.some(prefix => name.startsWith(prefix)));
}

/** Contexts that SET_META_CONTEXT selects: exact names only; unknown ones are passed over. */
export function selectContexts(available: readonly string[], queries: readonly string[]): SelectedContext[] {
  const wanted = new Set(queries);
  const selected: SelectedContext[] = [];
  for (const [index, name] of available.entries()) {
    if (wanted.has(name) && !selected.some(other => other.name === name)) {
      selected.push({ name, id: index + 1 });
    }
  }
  return selected;
}

/**
 * Extents as they go over the wire: neighbours with the same flags joined, nothing past `length`, only one with
 * `one`, and not more than a reply may hold. Empty when the export reported nothing usable.
 */
export function trimExtents(extents: readonly StatusExtent[], length: number, one: boolean): StatusExtent[] {
  const result: { length: number; flags: number }[] = [];
  const countMax = one ? 1 : STATUS_EXTENTS_MAX;
  let left = length;
  for (const extent of extents) {
    if (left === 0 || !(extent.length > 0)) break;
    const bytes = Math.min(extent.length, left);
    const last = result[result.length - 1];
    if (last !== undefined && last.flags === extent.flags) last.length += bytes;
    else if (result.length === countMax) break;
    else result.push({ length: bytes, flags: extent.flags });
    left -= bytes;
  }
  return result;
}
