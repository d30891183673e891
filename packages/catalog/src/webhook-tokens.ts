// Webhooks read events on behalf of whoever changed them last: once that token is revoked or has expired they are
// suspended, which an event tells (ADR 0063).
import { Prisma } from './generated/client.ts';
import type { Db, Tell } from './scope.ts';

interface Suspended {
  id: string;
  reason: 'token-revoked' | 'token-expired';
  token: string;
}

/** For after WHERE, about `api_token AS t`. */
const hasEnded = (now: Date) => Prisma.sql`(t.revoked_at IS NOT NULL OR t.expires_at <= ${now})`;

/** For after WHERE, about `webhook`. False where it was changed last without any token. */
export const isOrphaned = (now: Date) => Prisma.sql`EXISTS (
  SELECT 1 FROM api_token AS t WHERE t.name = webhook.on_behalf_of AND ${hasEnded(now)})`;

/** Of one, or of all; whether any was enabled and is not any more. What waits for it goes on waiting. */
export async function suspendOrphaned(
  db: Db,
  tell: Tell,
  { now, id }: { now: Date; id?: string },
): Promise<boolean> {
  const only = id === undefined ? Prisma.empty : Prisma.sql`AND webhook.id = ${id}::uuid`;
  const suspended = await db.$queryRaw<Suspended[]>`
    UPDATE webhook SET state = 'suspended',
      suspended_for = CASE WHEN t.revoked_at IS NULL THEN 'token-expired' ELSE 'token-revoked' END
    FROM api_token AS t
    WHERE t.name = webhook.on_behalf_of AND webhook.state = 'enabled' AND ${hasEnded(now)} ${only}
    RETURNING webhook.id::text, suspended_for AS reason, t.name AS token`;
  for (const { id: subjectId, ...data } of suspended) {
    tell({ kind: 'webhook-suspended', subjectType: 'webhook', subjectId, data });
  }
  return suspended.length > 0;
}
