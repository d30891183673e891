// Scenarios that no daemon of QEMU's can play, or that cannot be seen from outside: each with the test that
// shows it.

export interface ProvenByTest {
  readonly id: string;
  readonly title: string;
  /** From the root of the project. */
  readonly file: string;
  /** A part of the file: the test's name. */
  readonly name: string;
}

export const provenByTests: readonly ProvenByTest[] = [
  {
    id: 'JOB-T',
    title: 'each way between two states of a job, and no other',
    file: 'packages/engine/src/job/job-state.test.ts',
    name: 'lets %s go exactly its ways',
  },
  {
    id: 'JOB-V all',
    title: 'each of the 63 cells of verbs and states',
    file: 'packages/engine/src/job/job-state.test.ts',
    name: 'has a cell for each verb in each state',
  },
  {
    id: 'TX-18',
    title: 'results of a group whose members succeed, fail or are cancelled, in both orders',
    file: 'packages/engine/src/job/job-group.test.ts',
    name: 'hears of a cancel while the other does its last step',
  },
  {
    id: 'BS-X5',
    title: 'no bit is lost over random backups with random faults',
    file: 'packages/engine/test/scenario/bitmap-sync.test.ts',
    name: 'a bitmap through random backups',
  },
  {
    id: 'CBW-07',
    title: 'guest reads never wait for a copy',
    file: 'packages/engine/test/scenario/frozen-moment.test.ts',
    name: 'lets guest reads pass while a copy hangs',
  },
  {
    id: 'CBW-08',
    title: 'two guest writes to one cluster are preceded by one copy',
    file: 'packages/engine/test/scenario/frozen-moment.test.ts',
    name: 'copies a cluster once for two guests',
  },
  {
    id: 'CBW-09',
    title: 'a guest write waits for the copy of the job',
    file: 'packages/engine/test/scenario/backup.test.ts',
    name: 'copies a cluster once: the guest waits',
  },
  {
    id: 'CBW-06',
    title: 'a guest waits as long as the target hangs where there is no time-out',
    file: 'packages/engine/test/scenario/frozen-moment.test.ts',
    name: 'holds a guest for as long as its target hangs',
  },
  {
    id: 'FL-06',
    title: 'readers of the frozen moment never see what guests write meanwhile',
    file: 'packages/engine/test/scenario/frozen-moment.test.ts',
    name: 'shows the moment to readers while guests write',
  },
  {
    id: 'HB-02',
    title: 'a partial reset keeps the bit of a granule',
    file: 'packages/engine/src/bitmap/bitmap.test.ts',
    name: 'keeps the bit of a granule that is only partly reset',
  },
  {
    id: 'HB-05',
    title: 'an iteration survives the reset of what it stands on',
    file: 'packages/engine/src/bitmap/bitmap-edges.test.ts',
    name: 'iterates on while what it stands on',
  },
  {
    id: 'HB-06',
    title: 'parts put together are the whole, little endian on any machine',
    file: 'packages/engine/src/bitmap/bitmap-parts.test.ts',
    name: 'put together are the whole, byte for byte',
  },
  {
    id: 'BJ-14',
    title: 'memory stays bounded with 64 workers and a stuck target',
    file: 'apps/storage-node/test/interop/daemon-memory.test.ts',
    name: 'a stuck backup of 1 TiB with 64 workers stays below 256 MiB',
  },
  {
    id: 'INV-11',
    title: 'nothing reaches a target after its job has concluded',
    file: 'packages/engine/test/scenario/backup-job.test.ts',
    name: 'and nothing reaches the target afterwards',
  },
  {
    id: 'INV-03',
    title: 'each cluster is copied at most once, whoever comes first',
    file: 'packages/engine/test/scenario/frozen-moment.test.ts',
    name: 'copies a cluster once for two guests',
  },
];
