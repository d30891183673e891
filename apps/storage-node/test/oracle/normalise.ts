// All that comparing two traces may overlook, in one list. Nothing else is changed.
import type { QmpEventMessage } from './qmp-client.ts';

/** What a side's trace is rid of before it is compared. */
export interface NormaliseOptions {
  /** The side's own folder. */
  readonly folder: string;
}

const RULES: readonly { readonly what: string; readonly from: RegExp; readonly to: string }[] = [
  { what: 'names that the daemon made up', from: /#block\d+/g, to: '#block' },
  { what: 'ids of exports that the daemon made up', from: /"#\d+"/g, to: '"#"' },
];

/** Members that carry times, or sizes on the disk that depend on the file system. */
const MEMBERS_DROPPED = new Set(['timestamp', 'actual-size']);

/** Bitmaps that a copy works with, which ours does not list: record of decisions 0025. */
export function isWorkBitmap(bitmap: { name?: string; recording: boolean }): boolean {
  return bitmap.name === undefined && !bitmap.recording;
}

/** A list of nothing else is as good as none. */
function withoutWorkBitmaps(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  const others = value.filter(bitmap => !isWorkBitmap(bitmap));
  return others.length === 0 ? undefined : others;
}

export function normalise(value: unknown, { folder }: NormaliseOptions): unknown {
  const replace = (key: string, member: unknown): unknown => {
    if (MEMBERS_DROPPED.has(key)) return undefined;
    return key === 'dirty-bitmaps' ? withoutWorkBitmaps(member) : member;
  };
  let text = JSON.stringify(value, replace) ?? 'null';
  text = text.replaceAll(folder, '$folder');
  for (const { from, to } of RULES) text = text.replaceAll(from, to);
  return JSON.parse(text);
}

/** What our daemon tells besides. */
const OWN_EVENTS = 'X_TIDEMARK_';

/** Events of one job, export or block node stay in order; between them the order may differ. */
export function eventsBySubject(
  events: readonly QmpEventMessage[],
  { chanceJobs = new Set() }: { readonly chanceJobs?: ReadonlySet<string> } = {},
): Record<string, QmpEventMessage[]> {
  const bySubject: Record<string, QmpEventMessage[]> = {};
  for (const event of events) {
    if (event.event.startsWith(OWN_EVENTS)) continue;
    const { id, device, 'node-name': node } = event.data ?? {};
    const subject = String(id ?? device ?? node ?? event.event);
    bySubject[subject] ??= [];
    const told = withoutChanceOffset(event);
    bySubject[subject].push(chanceJobs.has(subject) ? withoutLength(told) : told);
  }
  for (const subject of Object.keys(bySubject)) bySubject[subject] = withoutDrainPauses(bySubject[subject]!);
  return bySubject;
}

/** How far a job had come when it was cancelled or failed is a matter of the daemon's speed. */
function withoutChanceOffset(event: QmpEventMessage): QmpEventMessage {
  const failed = event.event === 'BLOCK_JOB_COMPLETED' && event.data?.error !== undefined;
  if (!failed && event.event !== 'BLOCK_JOB_CANCELLED') return event;
  const { offset: _, ...data } = event.data ?? {};
  return { ...event, data };
}

/** Of a job that copies what a guest wrote meanwhile: how much that is depends on how the writes fell. */
function withoutLength(event: QmpEventMessage): QmpEventMessage {
  const { len: _, offset: __, ...data } = event.data ?? {};
  return { ...event, data };
}

const PAUSES: Readonly<Record<string, string>> = { paused: 'running', standby: 'ready' };

/** A drain lets a job pause and go on at once: how often that happens is the daemon's business. */
function withoutDrainPauses(events: readonly QmpEventMessage[]): QmpEventMessage[] {
  const kept: QmpEventMessage[] = [];
  for (const event of events) {
    const last = kept.at(-1);
    const resumed = PAUSES[statusOf(last) ?? ''];
    if (resumed !== undefined && resumed === statusOf(event)) kept.pop();
    else kept.push(event);
  }
  return kept;
}

function statusOf(event: QmpEventMessage | undefined): string | undefined {
  return event?.event === 'JOB_STATUS_CHANGE' ? String(event.data?.status) : undefined;
}
