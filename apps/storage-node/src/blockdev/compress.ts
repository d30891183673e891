// The `compress` driver: a filter that has writes stored compressed.
import { Compress, filterPermissions } from '@tidemark/engine';
import { z } from 'zod';
import { defineDriver } from './blockdev-driver.ts';

export const compressDriver = defineDriver({
  name: 'compress',
  options: z.object({}),
  children: { file: { role: 'file', required: true } },
  permissions: filterPermissions,
  async open({ children }) {
    return new Compress(children.file!);
  },
});
