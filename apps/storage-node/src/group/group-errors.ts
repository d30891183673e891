// What calls about groups are refused with: each names the group, its state and the next step.
import { TidemarkError } from '@tidemark/proto';
import { type GroupRecord, titleOf } from './group-record.ts';

type Title = Pick<GroupRecord, 'groupId' | 'groupName'>;

export function groupNotFound(groupId: string): TidemarkError {
  const text =
    `There is no group ${groupId} on this storage node: it was not prepared here, or long ago. ` +
    'Undo it on the others, and prepare a new one.';
  return new TidemarkError('group-not-found', text);
}

/** `verb`, such as `be fenced`. */
export function groupState(group: Title, verb: string, state: string): TidemarkError {
  const text = `${capital(titleOf(group))} cannot ${verb}: it is ${state} on this storage node. Undo it, or decide it.`;
  return new TidemarkError('group-state', text);
}

export function groupUndone(group: Title, reason: string): TidemarkError {
  const text =
    `${capital(titleOf(group))} was undone on this storage node: ${reason}. Undo it on the others, ` +
    'and try again with a new one.';
  return new TidemarkError('group-state', text);
}

export function fenceBroken(group: Title, reason: string): TidemarkError {
  const text =
    `The fence of ${titleOf(group)} did not hold: ${reason}. Guests go on, and nothing is left of the group here. ` +
    'Try again with a new one, or give it a longer limit.';
  return new TidemarkError('group-fence-broken', text);
}

export function otherRun(group: Title): TidemarkError {
  const text = `${capital(titleOf(group))} belongs to another run, which alone can go on with it.`;
  return new TidemarkError('group-state', text);
}

/** The same with the volume's name in front, so that it is known which of the group's it is about. */
export function ofVolume(error: unknown, volumeName: string): unknown {
  if (!(error instanceof TidemarkError) || error.message.includes(`'${volumeName}'`)) return error;
  return new TidemarkError(error.code, `Volume '${volumeName}': ${error.message}`, error);
}

function capital(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1);
}
