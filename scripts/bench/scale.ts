// How much is measured: all of it, or enough to see that the measuring works.

const GiB = 1024 ** 3;
const MiB = 1024 ** 2;

export interface Scale {
  /** Bytes of data on the disk that is measured; it is twice as large, the rest is holes. */
  readonly dataBytes: number;
  /** Times that each thing is measured, in turn with the others. */
  readonly rounds: number;
  readonly backupRounds: number;
  /** One measurement with small or large requests. */
  readonly seconds: number;
  /** One measurement of latency. */
  readonly latencySeconds: number;
  /** Bytes that are written for the cost of write-intent logs, on each of two disks. */
  readonly intentBytes: number;
  /** One measurement of it with small requests. */
  readonly intentSeconds: number;
}

/** About ten minutes on two cores and a disk of 1 GiB/s. */
export const FULL: Scale = {
  dataBytes: 2 * GiB,
  rounds: 3,
  backupRounds: 3,
  seconds: 0.7,
  latencySeconds: 3,
  intentBytes: 10 * GiB,
  intentSeconds: 12,
};

export const QUICK: Scale = {
  dataBytes: 256 * MiB,
  rounds: 2,
  backupRounds: 1,
  seconds: 0.5,
  latencySeconds: 1,
  intentBytes: 256 * MiB,
  intentSeconds: 2,
};
