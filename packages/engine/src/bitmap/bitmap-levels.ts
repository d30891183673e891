// Pure helpers on the word arrays of a bitmap: level 0 is the bits, each further level summarises the one
// below. All take and return granule indexes; none allocates, apart from newLevels.

/** Zeroed levels for `bits` bits, up to the level that fits one word. */
export function newLevels(bits: number): Uint32Array[] {
  const levels: Uint32Array[] = [];
  let words = Math.ceil(bits / 32);
  levels.push(new Uint32Array(words));
  while (words > 1) {
    words = Math.ceil(words / 32);
    levels.push(new Uint32Array(words));
  }
  return levels;
}

/** Number of one bits of a word. */
export function popcount(word: number): number {
  let v = word - ((word >>> 1) & 0x5555_5555);
  v = (v & 0x3333_3333) + ((v >>> 2) & 0x3333_3333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}

/** The bits of word `index` that lie in [first, end). */
function maskFor(index: number, first: number, end: number): number {
  const base = index * 32;
  let mask = 0xffff_ffff;
  if (first > base) mask = (mask << (first - base)) >>> 0;
  if (end < base + 32) mask = (mask & (2 ** (end - base) - 1)) >>> 0;
  return mask;
}

/** Sets [first, end); returns how many were zero before. */
export function setBits(levels: Uint32Array[], first: number, end: number): number {
  if (end <= first) return 0;
  const words = levels[0]!;
  const firstWord = Math.floor(first / 32);
  const endWord = Math.floor((end - 1) / 32) + 1;
  let added = 0;
  let woke = false;
  for (let i = firstWord; i < endWord; i++) {
    const before = words[i]!;
    const after = (before | maskFor(i, first, end)) >>> 0;
    if (after === before) continue;
    added += popcount(after ^ before);
    woke ||= before === 0;
    words[i] = after;
  }
  if (woke) raiseSummary(levels, firstWord, endWord);
  return added;
}

/** Clears [first, end); returns how many were set before. */
export function clearBits(levels: Uint32Array[], first: number, end: number): number {
  if (end <= first) return 0;
  const words = levels[0]!;
  const firstWord = Math.floor(first / 32);
  const endWord = Math.floor((end - 1) / 32) + 1;
  let removed = 0;
  let slept = false;
  for (let i = firstWord; i < endWord; i++) {
    const before = words[i]!;
    if (before === 0) continue;
    const after = (before & ~maskFor(i, first, end)) >>> 0;
    removed += popcount(after ^ before);
    slept ||= after === 0;
    words[i] = after;
  }
  if (slept) lowerSummary(levels, firstWord, endWord);
  return removed;
}

/** Words [first, end) of level 0 have bits now: says so on every level above. */
function raiseSummary(levels: Uint32Array[], first: number, end: number): void {
  let from = first;
  let to = end;
  for (let k = 1; k < levels.length; k++) {
    const below = levels[k - 1]!;
    const level = levels[k]!;
    for (let i = from; i < to; i++) {
      if (below[i] !== 0) level[i >>> 5] = (level[i >>> 5]! | (1 << (i & 31))) >>> 0;
    }
    from = Math.floor(from / 32);
    to = Math.floor((to - 1) / 32) + 1;
  }
}

function lowerSummary(levels: Uint32Array[], first: number, end: number): void {
  let from = first;
  let to = end;
  for (let k = 1; k < levels.length; k++) {
    const below = levels[k - 1]!;
    const level = levels[k]!;
    for (let i = from; i < to; i++) {
      if (below[i] === 0) level[i >>> 5] = (level[i >>> 5]! & ~(1 << (i & 31))) >>> 0;
    }
    from = Math.floor(from / 32);
    to = Math.floor((to - 1) / 32) + 1;
  }
}

/** Makes every summary level anew from level 0; returns the number of set bits. */
export function rebuildSummary(levels: Uint32Array[]): number {
  for (let k = 1; k < levels.length; k++) levels[k]!.fill(0);
  const words = levels[0]!;
  let count = 0;
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) count += popcount(words[i]!);
  raiseSummary(levels, 0, words.length);
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
