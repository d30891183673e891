// Answers of the probes.
import { z } from 'zod';

export const healthSchema = z
  .object({ status: z.literal('up'), version: z.string() })
  .meta({ id: 'Health', examples: [{ status: 'up', version: '0.1.0' }] });

export const readySchema = z
  .object({ status: z.literal('ready'), catalog: z.literal('up'), queue: z.literal('up') })
  .meta({ id: 'Ready', examples: [{ status: 'ready', catalog: 'up', queue: 'up' }] });
