// The text of server-sent events (WHATWG HTML, section 9.2): fields line by line, an empty line at the end.
import type { EventJson } from '../schemas/event.ts';

/** The kind is also the name of the event, so that a browser can listen for it. */
export function eventText(event: EventJson): string {
  return `id: ${event.id}\nevent: ${event.kind}\ndata: ${JSON.stringify(event)}\n\n`;
}

/** Without an id: it is not kept, and nobody resumes from it. */
export function transientText(kind: string, data: object): string {
  return `event: ${kind}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** A comment that keeps the connection open, and how far everything has been looked at, to resume from there. */
export function heartbeatText(upTo: number): string {
  return `: heartbeat\nid: ${upTo}\n\n`;
}
