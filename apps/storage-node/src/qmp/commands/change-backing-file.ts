// `change-backing-file`: rewrites what an image's header says of its backing image, which stays the one it has.
import { assertRoot, chainFrom, childOf, findByNodeName } from '@tidemark/engine';
import { z } from 'zod';
import { repoint } from '../../blockdev/chain-access.ts';
import { setReadOnly } from '../../blockdev/turn-read-only.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import { genericError } from '../qmp-error.ts';
import { systemErrorText } from '../system-error-text.ts';

/** As the format stores it. */
const NAME_BYTES_MAX = 1023;

export const changeBackingFileCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'change-backing-file',
    arguments: z.strictObject({
      device: z.string(),
      'image-node-name': z.string(),
      'backing-file': z.string(),
    }),
    async run({ device, 'image-node-name': imageName, 'backing-file': name }, daemon) {
      const { graph } = daemon;
      const top = graph.get(device);
      assertRoot(top);
      const image = findByNodeName(graph, imageName);
      const backing = childOf(image, 'backing');
      if (backing === undefined) {
        throw genericError('not allowing backing file change on an image without a backing file');
      }
      if (!chainFrom(top).includes(image))
        throw genericError(`'${device}' and image file are not in the same chain`);
      const failed = (why: string) => genericError(`Could not change backing file to '${name}': ${why}`);
      if (Buffer.byteLength(name) > NAME_BYTES_MAX) throw failed('Invalid argument');
      const { readOnly } = image;
      if (readOnly) await setReadOnly(image, false, daemon);
      try {
        const pointer = name === '' ? undefined : { path: name, format: backing.driver };
        await graph.change([image], {
          async begin() {},
          apply() {},
          prepare: async change => change.setDriver(image, await repoint(image, pointer, daemon)),
          commit() {},
        });
      } catch (error) {
        throw failed(systemErrorText(error));
      } finally {
        if (readOnly) await setReadOnly(image, true, daemon);
      }
    },
  }),
];
