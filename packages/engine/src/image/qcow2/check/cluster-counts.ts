// A count for each host cluster of a file, in pages, so that a sparse file of any size costs what is used of it.

const PAGE_CLUSTERS = 4096;

export class ClusterCounts {
  readonly #pages = new Map<number, Uint32Array>();
  #end = 0;

  get(cluster: number): number {
    return this.#pages.get(Math.floor(cluster / PAGE_CLUSTERS))?.[cluster % PAGE_CLUSTERS] ?? 0;
  }

  /** Counts above 32 bits are all the same to a check. */
  set(cluster: number, count: number): void {
    const index = Math.floor(cluster / PAGE_CLUSTERS);
    let page = this.#pages.get(index);
    if (page === undefined) {
      if (count === 0) return;
      page = new Uint32Array(PAGE_CLUSTERS);
      this.#pages.set(index, page);
    }
    page[cluster % PAGE_CLUSTERS] = Math.min(count, 0xffffffff);
    if (count > 0) this.#end = Math.max(this.#end, cluster + 1);
  }

  add(cluster: number, count: number): void {
    this.set(cluster, this.get(cluster) + count);
  }

  /** One past the last cluster that was ever counted. */
  get end(): number {
    return this.#end;
  }

  /** Clusters that have a count. */
  *clusters(): IterableIterator<number> {
    for (const cluster of clustersOf(this)) if (this.get(cluster) > 0) yield cluster;
  }

  get pages(): Iterable<number> {
    return this.#pages.keys();
  }
}

/** Clusters that may have a count in one of them, in order. */
export function* clustersOf(...counts: readonly ClusterCounts[]): IterableIterator<number> {
  const pages = new Set(counts.flatMap(each => [...each.pages]));
  for (const index of [...pages].sort((a, b) => a - b)) {
    for (let at = 0; at < PAGE_CLUSTERS; at++) yield index * PAGE_CLUSTERS + at;
  }
}
