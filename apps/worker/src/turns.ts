// Spreads what is due at intervals: not all that have the same interval are due at the same moment.

/** From 0 to below 1, the same for an id each time: ids are random. */
function shareOf(id: string): number {
  return Number.parseInt(id.slice(0, 8), 16) / 2 ** 32;
}

/** The last moment at which it was the turn of this id, of those that come once in `everyMs`. */
export function turnBefore(nowMs: number, everyMs: number, id: string): Date {
  const shiftMs = shareOf(id) * everyMs;
  return new Date(Math.floor((nowMs - shiftMs) / everyMs) * everyMs + shiftMs);
}
