// Helpers for tests of the engine and of drivers written elsewhere. Needs vitest.
export { CrashingNode } from './crashing-node.ts';
export { type FaultEvent, type FaultRule, FaultyNode, type FaultyNodeOptions } from './faulty-node.ts';
export {
  type BackupStep,
  type BitmapStep,
  DISK_BYTES,
  formatHistory,
  type GuestStep,
  generateHistory,
  type Step,
} from './history/history.ts';
export { Model } from './history/model.ts';
export { shrinkHistory } from './history/shrink.ts';
export { ManualClock, settled } from './manual-clock.ts';
export { MemoryNode, type MemoryNodeOptions } from './memory-node.ts';
export { ModelDisk } from './model-disk.ts';
export { type ConformanceOptions, describeBlockNode } from './node-conformance.ts';
export { checkImage, type Qcow2CheckResult } from './qcow2-check.ts';
export { SeededRandom } from './seeded-random.ts';
export { makeTemporaryFolder } from './temporary-folder.ts';
