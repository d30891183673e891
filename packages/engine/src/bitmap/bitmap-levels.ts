// Pure helpers on the word arrays of a bitmap: level 0 is the bits, each further level summarises the one
// below. All take and return granule indexes; none allocates, apart from newLevels.

/**
 * Zeroed levels for `bits` bits, up to the level that fits one word. Level 0 comes in pairs of words, at
 * least one: what is stored and hashed are 64-bit words (scenario HB-06).
 */
export function newLevels(bits: number): Uint32Array[] {
  const levels = [new Uint32Array(Math.max(2 * Math.ceil(bits / 64), 2))];
  for (let words = Math.ceil(bits / 32); words > 1; ) {
    words = Math.ceil(words / 32);
    levels.push(new Uint32Array(words));
  }
  return levels;
}

/** Number of one bits of a word. */
function popcount(word: number): number {
  let v = word - ((word >>> 1) & 0x5555_5555);
  v = (v & 0x3333_3333) + ((v >>> 2) & 0x3333_3333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}

/** Sets [first, end); returns how many were zero before. */
export function setBits(levels: Uint32Array[], first: number, end: number): number {
  return changeBits(levels, first, end, 0xffff_ffff);
}

/** Clears [first, end); returns how many were set before. */
export function clearBits(levels: Uint32Array[], first: number, end: number): number {
  return changeBits(levels, first, end, 0);
}

/** Gives the bits of [first, end) the value that `fill` has in every place; returns how many differed. */
function changeBits(levels: Uint32Array[], first: number, end: number, fill: number): number {
  if (end <= first) return 0;
  const words = levels[0]!;
  const firstWord = Math.floor(first / 32);
  const endWord = Math.floor((end - 1) / 32) + 1;
  let changed = 0;
  let summaryChanged = false;
  for (let i = firstWord; i < endWord; i++) {
    const before = words[i]!;
    const difference = (before ^ fill) & maskFor(i, first, end);
    if (difference === 0) continue;
    const after = (before ^ difference) >>> 0;
    changed += popcount(difference);
    summaryChanged ||= before === 0 || after === 0;
    words[i] = after;
  }
  if (summaryChanged) refreshSummary(levels, firstWord, endWord);
  return changed;
}

/** The bits of word `index` that lie in [first, end). */
function maskFor(index: number, first: number, end: number): number {
  const base = index * 32;
  let mask = 0xffff_ffff;
  if (first > base) mask <<= first - base;
  if (end < base + 32) mask &= 2 ** (end - base) - 1;
  return mask;
}

/** Says on every level above which of the words [first, end) of level 0 have bits now. */
function refreshSummary(levels: Uint32Array[], first: number, end: number): void {
  let from = first;
  let to = end;
  for (let k = 1; k < levels.length; k++) {
    const below = levels[k - 1]!;
    const level = levels[k]!;
    for (let i = from; i < to; i++) {
      const bit = 1 << (i & 31);
      if (below[i] === 0) level[i >>> 5]! &= ~bit;
      else level[i >>> 5]! |= bit;
    }
    from = Math.floor(from / 32);
    to = Math.floor((to - 1) / 32) + 1;
  }
}

/** Makes every summary level anew from level 0, of `bits` bits; returns the number of set bits. */
export function rebuildSummary(levels: Uint32Array[], bits: number): number {
  const words = levels[0]!;
  let count = 0;
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) count += popcount(words[i]!);
  refreshSummary(levels, 0, Math.ceil(bits / 32));
  return count;
}

/**
 * Adds the bits of `other`, which has the same number of bits; returns how many were zero before. Empty
 * stretches of `other` are skipped, so that the union of many sparse bitmaps costs what their bits cost.
 */
export function orBits(levels: Uint32Array[], other: readonly Uint32Array[]): number {
  const words = levels[0]!;
  const added = other[0]!;
  let count = 0;
  const orWords = (first: number, end: number): void => {
    for (let i = first; i < end; i++) {
      const fresh = added[i]! & ~words[i]!;
      if (fresh === 0) continue;
      words[i]! |= fresh;
      count += popcount(fresh);
    }
  };
  const summary = other[1];
  if (summary === undefined) orWords(0, 1);
  else {
    for (let i = 0; i < summary.length; i++) {
      if (summary[i] !== 0) orWords(i * 32, Math.min(i * 32 + 32, words.length));
    }
  }
  // The summary of a union is the union of the summaries.
  for (let k = 1; k < levels.length; k++) {
    const level = levels[k]!;
    const theirs = other[k]!;
    for (let i = 0; i < level.length; i++) level[i]! |= theirs[i]!;
  }
  return count;
}

/** First set bit in [from, end), or -1: climbs to the level where something is ahead, then goes down. */
export function findSet(levels: Uint32Array[], from: number, end: number): number {
  let bit = from;
  for (let k = 0; k < levels.length; k++) {
    const level = levels[k]!;
    const index = Math.floor(bit / 32);
    if (index >= level.length) return -1;
    const ahead = (level[index]! & (0xffff_ffff << (bit & 31))) >>> 0;
    if (ahead !== 0) return descend(levels, k, index * 32 + trailingZeros(ahead), end);
    bit = index + 1;
  }
  return -1;
}

function descend(levels: Uint32Array[], from: number, position: number, end: number): number {
  let bit = position;
  for (let k = from; k > 0; k--) bit = bit * 32 + trailingZeros(levels[k - 1]![bit]!);
  return bit < end ? bit : -1;
}

/** First zero bit in [from, end), or -1. */
export function findZero(words: Uint32Array, from: number, end: number): number {
  if (from >= end) return -1;
  let index = Math.floor(from / 32);
  let free = (~words[index]! & (0xffff_ffff << (from & 31))) >>> 0;
  while (free === 0) {
    index++;
    if (index >= words.length) return -1;
    free = ~words[index]! >>> 0;
  }
  const bit = index * 32 + trailingZeros(free);
  return bit < end ? bit : -1;
}

function trailingZeros(word: number): number {
  return 31 - Math.clz32(word & -word);
}
