// Options that name the hooks of groups, as requests for a group and for a policy have them, and how they are shown.
import type { Schema } from '@tidemark/client';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { seconds } from '../output.ts';
import { parseCount } from './context.ts';

export interface HookOptions {
  webhook?: string[];
  hook?: { storageNode: string; command: string }[];
  hookTimeout?: number;
}

export function withHookOptions(command: Command): Command {
  return command
    .option('--webhook <url>', 'called before (freeze) and after (thaw); may be repeated', collect)
    .option('--hook <node=name>', "command of a storage node's allow list; may be repeated", collectHook)
    .option('--hook-timeout <ms>', 'how long one call of a hook may take (default: 10000)', parseCount);
}

export const completionOption = (fallback: Schema<'Group'>['completion']): Option =>
  new Option(
    '--completion <how>',
    `what a backup that fails means for the others: nothing, or that all are taken back (default: ${fallback})`,
  ).choices(['individual', 'grouped']);

/** Undefined where none was named. */
export function hooksOf({ hook = [], webhook = [], hookTimeout }: HookOptions) {
  const timeout = hookTimeout === undefined ? {} : { timeoutMs: hookTimeout };
  const hooks: Schema<'GroupHookInput'>[] = [
    ...hook.map(one => ({ ...one, ...timeout })),
    ...webhook.map(url => ({ webhook: url, ...timeout })),
  ];
  if (hooks.length > 0) return hooks;
  if (hookTimeout === undefined) return undefined;
  throw new InvalidArgumentError('--hook-timeout is about hooks: name some with --hook or --webhook.');
}

/** Without what may be secret in an address. `names`: of storage nodes, by id. */
export function hookText(hook: Schema<'GroupHook'>, names: ReadonlyMap<string, string>): string {
  const most = `${seconds(hook.timeoutMs)} at most`;
  if ('command' in hook) {
    return `${names.get(hook.storageNode) ?? hook.storageNode}=${hook.command}, ${most}`;
  }
  const { origin, pathname } = new URL(hook.webhook);
  return `${origin}${pathname}, ${most}`;
}

const collect = (url: string, before: string[] = []): string[] => [...before, url];

function collectHook(text: string, before: NonNullable<HookOptions['hook']> = []) {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1)
    throw new InvalidArgumentError('Give NODE=NAME, like alpha=freeze-db.');
  return [...before, { storageNode: text.slice(0, at), command: text.slice(at + 1) }];
}
