// Checks an image's refcounts and flags against what refers to each cluster, and puts them right where asked to.
import { EngineError } from '../../../errors.ts';
import { QCOW2_CHECKED_CLUSTERS_MAX } from '../../../limits.ts';
import type { BlockNode } from '../../../node/block-node.ts';
import { INCOMPATIBLE } from '../format.ts';
import { type Qcow2Header, readQcow2Header } from '../header.ts';
import { HeaderFile } from '../header-file.ts';
import { completeLastCluster } from '../read-padded.ts';
import { clustersOf } from './cluster-counts.ts';
import { checkCopiedFlags } from './copied-flags.ts';
import { Findings } from './findings.ts';
import { ReferenceWalk } from './reference-walk.ts';
import { rebuildRefcounts, setStoredCounts } from './repair.ts';
import { readStoredCounts, type StoredCounts } from './stored-counts.ts';

/** As `qemu-img check --output=json` counts. */
export interface Qcow2CheckResult {
  checkErrors: number;
  leaks: number;
  corruptions: number;
  leaksFixed: number;
  corruptionsFixed: number;
  /** Bytes: past the last cluster that is used or counted. */
  imageEndOffset: number;
  allocatedClusters: number;
  totalClusters: number;
  compressedClusters: number;
  fragmentedClusters: number;
  /** What is wrong, in words, each with its structure and offset; cut short where there is much. */
  findings: readonly string[];
}

export interface CheckOptions {
  /** `leaks`: give leaked clusters back; `all`: put everything right that can be. Default: only look. */
  repair?: 'leaks' | 'all';
}

interface Pass {
  header: Qcow2Header;
  findings: Findings;
  walk: ReferenceWalk;
  stored: StoredCounts;
  /** Flags that do not agree with the counts. */
  wrongFlags: number;
}

/**
 * Nobody else may use the image meanwhile. Rejects with `invalid-format` or `unsupported` where the header cannot be
 * used at all, `corrupt` where a repair would need what is lost, and `io`.
 */
export async function checkQcow2(file: BlockNode, options: CheckOptions = {}): Promise<Qcow2CheckResult> {
  let pass = await look(file);
  let leaksFixed = 0;
  let corruptionsFixed = 0;
  if (options.repair !== undefined) {
    const before = pass.findings;
    await completeLastCluster(file, pass.header.clusterBytes);
    const countsBefore = wrongCounts(pass);
    const flagsBefore = await repair(file, pass, options.repair);
    pass = await look(file);
    leaksFixed = Math.max(0, before.leaks - pass.findings.leaks);
    const flagsFixed = Math.max(0, flagsBefore - pass.wrongFlags);
    corruptionsFixed = Math.max(0, countsBefore - wrongCounts(pass)) + flagsFixed;
    if (options.repair === 'all') await markClean(file, pass);
  }
  const { findings, walk, header, stored } = pass;
  return {
    checkErrors: findings.checkErrors,
    leaks: findings.leaks,
    corruptions: findings.corruptions,
    leaksFixed,
    corruptionsFixed,
    imageEndOffset: Math.max(walk.uses.end, stored.counts.end) * header.clusterBytes,
    allocatedClusters: walk.allocation.allocated,
    totalClusters: Math.ceil(header.sizeBytes / header.clusterBytes),
    compressedClusters: walk.allocation.compressed,
    fragmentedClusters: walk.allocation.fragmented,
    findings: findings.texts,
  };
}

async function look(file: BlockNode): Promise<Pass> {
  const header = await readQcow2Header(file);
  if (file.sizeBytes / header.clusterBytes > QCOW2_CHECKED_CLUSTERS_MAX) {
    const text = `a file of ${file.sizeBytes} bytes has more clusters than a check can count`;
    throw new EngineError('unsupported', text, { op: 'check' });
  }
  const findings = new Findings();
  const walk = new ReferenceWalk(file, header, findings);
  await walk.walk();
  const stored = await readStoredCounts(file, header, walk, findings);
  compare({ header, findings, walk, stored });
  const wrongFlags = await checkCopiedFlags({ file, header, counts: stored.counts, findings });
  return { header, findings, walk, stored, wrongFlags };
}

function compare({ header, findings, walk, stored }: Omit<Pass, 'wrongFlags'>): void {
  for (const cluster of clustersOf(walk.uses, stored.counts)) {
    const counted = stored.counts.get(cluster);
    const used = walk.uses.get(cluster);
    if (counted === used) continue;
    const text = `the cluster at ${cluster * header.clusterBytes} is used ${used} times and counted ${counted}`;
    if (counted > used) findings.leak(text);
    else findings.corruption(text);
  }
}

/** Corruptions that are no flags. */
function wrongCounts({ findings, wrongFlags }: Pass): number {
  return findings.corruptions - wrongFlags;
}

/** Returns how many flags were wrong when the counts had been put right: those that had to be changed themselves. */
async function repair(file: BlockNode, pass: Pass, extent: 'leaks' | 'all'): Promise<number> {
  const { header, walk, stored, findings } = pass;
  if (extent === 'all') {
    const done = !stored.broken && (await setStoredCounts({ file, header, walk, stored, raise: true }));
    if (!done) await rebuildRefcounts(file, header, walk);
  } else if (!stored.broken) await setStoredCounts({ file, header, walk, stored, raise: false });
  if (findings.leaks + findings.corruptions === 0) return 0;
  const again = await look(file);
  const parts = { file, header: again.header, counts: again.stored.counts, findings: new Findings() };
  if (again.wrongFlags > 0)
    await checkCopiedFlags({ ...parts, repair: extent === 'all' ? 'all' : 'missing' });
  return again.wrongFlags;
}

async function markClean(file: BlockNode, { header, findings }: Pass): Promise<void> {
  const { dirty, corrupt } = INCOMPATIBLE;
  const bits = header.incompatibleFeatures & (dirty | corrupt);
  if (bits === 0n) return;
  if (findings.corruptions + findings.checkErrors > 0) {
    const text = `the qcow2 image is beyond repair: ${findings.texts[0] ?? 'it cannot be checked'}`;
    throw new EngineError('corrupt', text, { op: 'repair' });
  }
  const incompatibleFeatures = header.incompatibleFeatures & ~(dirty | corrupt);
  await new HeaderFile(file, header).patch({ incompatibleFeatures });
}
