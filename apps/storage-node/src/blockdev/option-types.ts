// Types of driver options that the schema of the monitor has no word for.
import { z } from 'zod';

/** QAPI says `int`, the driver wants bytes. */
export const byteCount = z
  .int()
  .refine(value => value >= 0, { message: 'expects a non-negative number below 2^64' })
  .meta({ qapi: 'integer' });
