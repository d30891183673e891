// Every block device driver, by the name that QAPI gives it.
import { blkdebugDriver } from './blkdebug.ts';
import type { BlockdevDriver } from './blockdev-driver.ts';
import { compressDriver } from './compress.ts';
import { fileDriver } from './file.ts';
import { nullCoDriver } from './null-co.ts';
import { qcow2Driver } from './qcow2.ts';
import { rawDriver } from './raw.ts';
import { throttleDriver } from './throttle.ts';

const drivers: readonly BlockdevDriver[] = [
  blkdebugDriver,
  compressDriver,
  fileDriver,
  nullCoDriver,
  qcow2Driver,
  rawDriver,
  throttleDriver,
];

export const blockdevDrivers: ReadonlyMap<string, BlockdevDriver> = new Map(
  drivers.map(driver => [driver.name, driver]),
);
