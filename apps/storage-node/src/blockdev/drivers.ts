// Every block device driver, by the name that QAPI gives it.
import type { BlockdevDriver } from './blockdev-driver.ts';
import { fileDriver } from './file.ts';
import { qcow2Driver } from './qcow2.ts';
import { rawDriver } from './raw.ts';

const drivers: readonly BlockdevDriver[] = [fileDriver, qcow2Driver, rawDriver];

export const blockdevDrivers: ReadonlyMap<string, BlockdevDriver> = new Map(
  drivers.map(driver => [driver.name, driver]),
);
