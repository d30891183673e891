// The commands for monitors of a process that has block nodes and bitmaps of its own: what its owner relies on
// can be looked at, read and backed up over QMP, but neither changed nor removed.
import { EngineError } from '@tidemark/engine';
import type { QmpCommand } from './command.ts';
import type { StorageDaemon } from './storage-daemon.ts';

/** What the process keeps for itself. */
export interface Reserved {
  /** Who owns the block node, in words such as `volume 'web'`; undefined: whoever added it. */
  blockNodeOwner(name: string): string | undefined;
  /** The same for a bitmap of a block node. */
  bitmapOwner(node: string, name: string): string | undefined;
}

type Arguments = Record<string, unknown>;
/** Throws when the command would change what is reserved. */
type Check = (args: Arguments, reserved: Reserved) => void;

const checkNode: Check = (args, reserved) => {
  const name = String(args['node-name'] ?? args.device);
  const owner = reserved.blockNodeOwner(name);
  if (owner === undefined) return;
  throw new EngineError('busy', `Node '${name}' is busy: it belongs to ${owner}`, {
    node: name,
    hint: 'Change it through the storage node that owns it.',
  });
};

function checkBitmap(node: unknown, name: unknown, reserved: Reserved): void {
  const owner = reserved.bitmapOwner(String(node), String(name));
  if (owner === undefined) return;
  throw new EngineError('busy', `Bitmap '${name}' is busy: it belongs to ${owner}`, {
    node: String(node),
    hint: 'Merge it into a bitmap of your own and use that one.',
  });
}

const checkNamedBitmap: Check = (args, reserved) => checkBitmap(args.node, args.name, reserved);
const checkUsedBitmap: Check = (args, reserved) => {
  if (args.bitmap !== undefined) checkBitmap(args.device, args.bitmap, reserved);
};

const CHECKS: Readonly<Record<string, Check>> = {
  'blockdev-del': checkNode,
  block_resize: checkNode,
  'block-commit': checkNode,
  'block-stream': checkNode,
  'blockdev-mirror': (args, reserved) => {
    checkNode(args, reserved);
    checkNode({ 'node-name': args.target }, reserved);
  },
  'change-backing-file': (args, reserved) => {
    checkNode(args, reserved);
    checkNode({ 'node-name': args['image-node-name'] }, reserved);
  },
  'blockdev-reopen': (args, reserved) => {
    for (const options of args.options as Arguments[]) checkNode(options, reserved);
  },
  'block-dirty-bitmap-remove': checkNamedBitmap,
  'block-dirty-bitmap-clear': checkNamedBitmap,
  'block-dirty-bitmap-enable': checkNamedBitmap,
  'block-dirty-bitmap-disable': checkNamedBitmap,
  'block-dirty-bitmap-merge': (args, reserved) => checkBitmap(args.node, args.target, reserved),
  'blockdev-create': (args, reserved) => {
    const { file } = args.options as Arguments;
    if (typeof file === 'string') checkNode({ 'node-name': file }, reserved);
  },
  'blockdev-snapshot': (args, reserved) => {
    for (const name of [args.node, args.overlay]) checkNode({ 'node-name': name }, reserved);
  },
  'blockdev-snapshot-sync': checkNode,
  'blockdev-snapshot-internal-sync': checkNode,
  'blockdev-snapshot-delete-internal-sync': checkNode,
  'blockdev-backup': checkUsedBitmap,
  'drive-backup': checkUsedBitmap,
  fleece: checkUsedBitmap,
  // An exported bitmap is in use, which would keep its owner from it.
  'nbd-server-add': checkUsedBitmap,
  'block-export-add': (args, reserved) => {
    for (const bitmap of (args.bitmaps ?? []) as (string | { node: string; name: string })[]) {
      if (typeof bitmap === 'string') checkBitmap(args['node-name'], bitmap, reserved);
      else checkBitmap(bitmap.node, bitmap.name, reserved);
    }
  },
  transaction: (args, reserved) => {
    for (const { type, data } of args.actions as { type: string; data: Arguments }[]) {
      CHECKS[type]?.(data, reserved);
    }
  },
  quit: () => {
    throw new EngineError('unsupported', 'A storage node is not stopped over QMP', {
      hint: 'Stop its service.',
    });
  },
};

/** Each command as it was, behind its check. */
export function reserveCommands(
  commands: ReadonlyMap<string, QmpCommand>,
  reserved: Reserved,
): ReadonlyMap<string, QmpCommand> {
  return new Map([...commands].map(([name, command]) => [name, checked(command, CHECKS[name], reserved)]));
}

function checked(command: QmpCommand, check: Check | undefined, reserved: Reserved): QmpCommand {
  if (check === undefined) return command;
  return {
    ...command,
    run(args: unknown, daemon: StorageDaemon) {
      check(args as Arguments, reserved);
      return command.run(args, daemon);
    },
  };
}
