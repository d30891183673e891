// The `throttle` driver: a filter in a group that `object-add` has made.
import { EngineError, filterPermissions, Throttle, type ThrottleGroup } from '@tidemark/engine';
import { z } from 'zod';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';
import { defineDriver } from './blockdev-driver.ts';

export const throttleDriver = defineDriver({
  name: 'throttle',
  options: z.object({ 'throttle-group': z.string() }),
  children: { file: { role: 'file', required: true } },
  permissions: filterPermissions,
  strongOptions: ['throttle-group'],
  async open({ options, children, host }) {
    return new Throttle(children.file!, findGroup(host, options['throttle-group']));
  },
  reopen({ blockdev, options, host }) {
    const throttle = blockdev.driver as Throttle;
    const group = findGroup(host, options['throttle-group']);
    return { commit: () => throttle.moveTo(group), abort: () => {} };
  },
});

function findGroup(host: StorageDaemon, name: string): ThrottleGroup {
  const group = host.throttleGroups.get(name);
  if (group !== undefined) return group;
  throw new EngineError('not-found', `Throttle group '${name}' does not exist`, {
    hint: 'Make it with object-add first.',
  });
}
