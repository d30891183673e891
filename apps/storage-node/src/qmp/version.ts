// The version of QEMU whose monitor this one behaves as, which clients use to tell what they may ask for.

/** What `query-version` and the greeting show. */
export function qemuVersion(tidemark: string): object {
  return { qemu: { micro: 0, minor: 2, major: 7 }, package: `tidemark ${tidemark}` };
}
