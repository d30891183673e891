// The `snapshot-access` driver: the frozen moment of the copy-before-write node below.
import { SnapshotAccess, snapshotAccessPermissions } from '@tidemark/engine';
import { z } from 'zod';
import { defineDriver } from './blockdev-driver.ts';

export const snapshotAccessDriver = defineDriver({
  name: 'snapshot-access',
  options: z.object({}),
  children: { file: { role: 'file', required: true } },
  filename: (_options, file) => (file?.startsWith('json:') ? undefined : file),
  permissions: snapshotAccessPermissions,
  async open({ children }) {
    return new SnapshotAccess(children.file!);
  },
});
