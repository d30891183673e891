// What a disk may hold: every change of every block on a logical clock, from which follows what a reader can see
// now, after a crash, or at a point in time that somebody else took. No two changes of a block are ever under
// way together.

import { BLOCKS_OF_A_GRANULE } from './limits.ts';

/** Contents of a block are numbers: that of the stamp which was written, or 0 for zeroes. */
export const ZEROES = 0;

export interface Change {
  readonly content: number;
  readonly issuedAt: number;
  /** `Infinity` while it is under way. */
  doneAt: number;
  /** Nobody asked for it: it is what a crash has left. */
  readonly isFound?: true;
}

/** The point in time lies between two readings of the clock. */
export interface Window {
  readonly from: number;
  readonly to: number;
}

/** Its next reading is one more. */
export interface Clock {
  now: number;
}

/** What a reader found in each block. */
export type Contents = Uint32Array;

/** A reader's mark for a block that holds nothing that anybody wrote. */
export const DAMAGED = 0xffff_ffff;

export interface Fault {
  readonly block: number;
  readonly found: number;
  readonly expected: string;
}

export class DiskModel {
  readonly blocks: number;
  readonly #changes: Change[][];
  /** By block: the index of the latest change that survives a crash of the storage node. */
  readonly #durable: Uint32Array;
  readonly #clock: Clock;
  #lastContent = ZEROES;

  /** Models with one clock tell what was before what across disks. */
  constructor(blocks: number, clock: Clock = { now: 0 }) {
    this.#clock = clock;
    this.blocks = blocks;
    this.#changes = Array.from({ length: blocks }, () => [{ content: ZEROES, issuedAt: 0, doneAt: 0 }]);
    this.#durable = new Uint32Array(blocks);
  }

  now(): number {
    return this.#clock.now;
  }

  /** A content that was never written before. */
  nextContent(): number {
    this.#lastContent += 1;
    return this.#lastContent;
  }

  /** To be called before the request is sent. */
  issue(block: number, content: number): Change {
    const change = { content, issuedAt: this.#tick(), doneAt: Number.POSITIVE_INFINITY };
    this.#changes[block]!.push(change);
    return change;
  }

  acknowledge(change: Change): void {
    change.doneAt = this.#tick();
  }

  /** A flush that was requested at that reading of the clock has been acknowledged. */
  flushed(requestedAt: number): void {
    this.#changes.forEach((changes, block) => {
      const latest = changes.findLastIndex(change => change.doneAt <= requestedAt);
      this.#durable[block] = Math.max(this.#durable[block]!, latest);
    });
  }

  /** What the guest reads: nothing is under way. */
  current(block: number): number {
    return this.#changes[block]!.at(-1)!.content;
  }

  /**
   * The storage node came back after a crash and this is what the disk holds: it may, or it is a fault. The crash was
   * after the reading `aliveAt`: whoever took a point in time since then may have seen either.
   */
  settle(contents: Contents, aliveAt: number): Fault[] {
    const at = this.#tick();
    const faults: Fault[] = [];
    this.#changes.forEach((changes, block) => {
      const content = contents[block]!;
      const candidates = changes.slice(this.#durable[block]).map(change => change.content);
      if (!candidates.includes(content)) faults.push(fault(block, content, candidates));
      for (const change of changes) change.doneAt = Math.min(change.doneAt, at);
      if (changes.length > 1 || content !== ZEROES) {
        changes.push({ content, issuedAt: aliveAt, doneAt: at, isFound: true });
      }
      this.#durable[block] = changes.length - 1;
    });
    return faults;
  }

  /** What a guest that nobody disturbs reads. */
  compare(contents: Contents): Fault[] {
    const faults: Fault[] = [];
    for (let block = 0; block < this.blocks; block += 1) {
      const expected = this.current(block);
      if (contents[block] !== expected) faults.push(fault(block, contents[block]!, [expected]));
    }
    return faults;
  }

  /**
   * An image of one instant within the window: each block holds what was there, and no change without those that
   * were acknowledged before it was issued.
   */
  judge(contents: Contents, window: Window): Fault[] {
    const from = this.earliest(contents, window);
    const faults: Fault[] = [];
    for (let block = 0; block < this.blocks; block += 1) {
      const possible = this.#seen(block, { from, to: window.to }).map(change => change.content);
      if (!possible.includes(contents[block]!)) faults.push(fault(block, contents[block]!, possible));
    }
    return faults;
  }

  /** Before that reading of the clock nobody can have seen these contents: one of the changes was not issued yet. */
  earliest(contents: Contents, window: Window): number {
    let from = window.from;
    for (let block = 0; block < this.blocks; block += 1) {
      const held = this.#seen(block, window).filter(change => change.content === contents[block]);
      // Of zeroes nobody can tell which they are: the earliest demands least.
      from = Math.max(from, held[0]?.issuedAt ?? 0);
    }
    return from;
  }

  /** Blocks that certainly differ between the instant and now. Nothing is under way. */
  changedSince(window: Window): number[] {
    const changed: number[] = [];
    for (let block = 0; block < this.blocks; block += 1) {
      const current = this.current(block);
      if (!this.#seen(block, window).some(change => change.content === current)) changed.push(block);
    }
    return changed;
  }

  /** Granules that a request may have changed since the instant, whatever it changed them to. */
  touchedGranules({ from }: Window): Set<number> {
    const touched = new Set<number>();
    this.#changes.forEach((changes, block) => {
      if (changes.some(({ doneAt, isFound }) => doneAt > from && isFound !== true)) {
        touched.add(Math.floor(block / BLOCKS_OF_A_GRANULE));
      }
    });
    return touched;
  }

  /** Changes that a reader of an instant within the window may see, oldest first. */
  #seen(block: number, { from, to }: Window): Change[] {
    const changes = this.#changes[block]!;
    const first = Math.max(
      changes.findLastIndex(change => change.doneAt <= from),
      0,
    );
    return changes.slice(first).filter((change, index) => index === 0 || change.issuedAt <= to);
  }

  #tick(): number {
    this.#clock.now += 1;
    return this.#clock.now;
  }
}

/** An image of one instant of a disk that has one clock with the others. */
export interface Image {
  readonly model: DiskModel;
  readonly contents: Contents;
  readonly window: Window;
}

/**
 * Images of one instant of all: what one of them shows had been issued by then, so all show what was acknowledged
 * before that. Faults image by image.
 */
export function judgeTogether(images: readonly Image[]): Fault[][] {
  const from = Math.max(...images.map(({ model, contents, window }) => model.earliest(contents, window)));
  const to = Math.max(from, Math.min(...images.map(({ window }) => window.to)));
  return images.map(({ model, contents }) => model.judge(contents, { from, to }));
}

function fault(block: number, found: number, possible: readonly number[]): Fault {
  return { block, found, expected: [...new Set(possible)].slice(-4).join(' or ') };
}

/** One line for people. */
export function describeFaults(faults: readonly Fault[]): string {
  const some = faults.slice(0, 3).map(({ block, found, expected }) => {
    const what = found === DAMAGED ? 'a damaged block' : `write ${found}`;
    return `block ${block} holds ${what} instead of ${expected}`;
  });
  return `${faults.length} blocks: ${some.join('; ')}`;
}
