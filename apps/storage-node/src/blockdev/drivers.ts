// Every block device driver, by the name that QAPI gives it.
import { blkdebugDriver } from './blkdebug.ts';
import type { BlockdevDriver } from './blockdev-driver.ts';
import { compressDriver } from './compress.ts';
import { copyBeforeWriteDriver } from './copy-before-write.ts';
import { fileDriver } from './file.ts';
import { nbdDriver } from './nbd.ts';
import { nullCoDriver } from './null-co.ts';
import { qcow2Driver } from './qcow2.ts';
import { rawDriver } from './raw.ts';
import { snapshotAccessDriver } from './snapshot-access.ts';
import { throttleDriver } from './throttle.ts';

const drivers: readonly BlockdevDriver[] = [
  blkdebugDriver,
  compressDriver,
  copyBeforeWriteDriver,
  fileDriver,
  nbdDriver,
  nullCoDriver,
  qcow2Driver,
  rawDriver,
  snapshotAccessDriver,
  throttleDriver,
];

export const blockdevDrivers: ReadonlyMap<string, BlockdevDriver> = new Map(
  drivers.map(driver => [driver.name, driver]),
);
