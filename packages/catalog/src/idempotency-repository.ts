// Requests that are carried out once, however often they are sent and to whichever api. Who claims a key carries it
// out while its lease lasts; what it writes is committed together with the mark that it did, or not at all.
import type { Prisma } from './generated/client.ts';
import type { IdempotencyKeyModel } from './generated/models.ts';
import type { JsonObject } from './run.ts';
import type { Scope } from './scope.ts';

export interface IdempotencyRef {
  /** Id of the token; `open` where none is needed. */
  owner: string;
  key: string;
}

export interface IdempotencyClaim extends IdempotencyRef {
  requestHash: string;
  /** Unlike that of any other request. */
  holder: string;
  leaseMs: number;
  keptMs: number;
}

export interface AcceptedAnswer {
  /** Null where it is not kept: it is too large, or holds a secret. */
  body: JsonObject | null;
  location: string | null;
}

export interface StoredAnswer extends AcceptedAnswer {
  status: number;
}

export interface IdempotencyState {
  /** Whether the claim was granted: carry the request out. */
  granted: boolean;
  requestHash: string;
  /** What was asked for is written, whether or not it was answered. */
  committed: boolean;
  runId: string | null;
  /** Null until it was answered. */
  answer: StoredAnswer | null;
  /** What was to be answered at once, kept by the transaction that wrote what was asked for. */
  accepted: AcceptedAnswer | null;
  /** Nobody is at it any more. */
  abandoned: boolean;
}

interface Row extends Omit<IdempotencyKeyModel, 'answer'> {
  answer: unknown;
  abandoned: boolean;
}

function toState(row: Row, holder: string): IdempotencyState {
  const kept = row.answer as AcceptedAnswer | null;
  return {
    granted: row.holder === holder && !row.committed && row.status === null,
    requestHash: row.requestHash,
    committed: row.committed,
    runId: row.runId,
    answer: row.status === null || kept === null ? null : { status: row.status, ...kept },
    accepted: row.status === null ? kept : null,
    abandoned: row.abandoned,
  };
}

export class IdempotencyRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /**
   * Grants the claim when nobody has the key, when it has expired, and when who had it is gone and had written
   * nothing. Otherwise tells what is known of it. By the database's clock.
   */
  claim({ owner, key, requestHash, holder, leaseMs, keptMs }: IdempotencyClaim): Promise<IdempotencyState> {
    return this.#scope.read(async db => {
      await db.$executeRaw`
        INSERT INTO idempotency_key (owner, key, request_hash, holder, lease_until, expires_at)
        VALUES (${owner}, ${key}, ${requestHash}, ${holder}::uuid,
          now() + ${leaseMs} * interval '1 millisecond', now() + ${keptMs} * interval '1 millisecond')
        ON CONFLICT (owner, key) DO UPDATE SET
          request_hash = excluded.request_hash, holder = excluded.holder, lease_until = excluded.lease_until,
          committed = false, run_id = NULL, status = NULL, answer = NULL, created_at = now(),
          expires_at = excluded.expires_at
        WHERE idempotency_key.expires_at < now()
          OR (idempotency_key.lease_until < now() AND NOT idempotency_key.committed
            AND idempotency_key.status IS NULL AND idempotency_key.request_hash = excluded.request_hash)`;
      const rows = await db.$queryRaw<Row[]>`
        SELECT owner, key, request_hash AS "requestHash", holder, committed, run_id AS "runId", status, answer,
          lease_until < now() AS abandoned
        FROM idempotency_key WHERE owner = ${owner} AND key = ${key}`;
      // Deleted in between, by the sweep of expired ones: to be asked again.
      if (!rows[0])
        return {
          granted: false,
          requestHash,
          committed: false,
          runId: null,
          answer: null,
          accepted: null,
          abandoned: true,
        };
      return toState(rows[0], holder);
    });
  }

  /** False: the lease ran out and somebody else carries the request out. */
  async renew({ owner, key }: IdempotencyRef, holder: string, leaseMs: number): Promise<boolean> {
    const count = await this.#scope.read(
      db => db.$executeRaw`
        UPDATE idempotency_key SET lease_until = now() + ${leaseMs} * interval '1 millisecond'
        WHERE owner = ${owner} AND key = ${key} AND holder = ${holder}::uuid AND status IS NULL`,
    );
    return count === 1;
  }

  /**
   * Within the transaction that writes what was asked for. False: somebody else carries the request out, and nothing
   * may be written.
   */
  async markCommitted(
    { owner, key }: IdempotencyRef,
    holder: string,
    { runId, accepted }: { runId: string | null; accepted: AcceptedAnswer | null },
  ): Promise<boolean> {
    const { count } = await this.#scope.read(db =>
      db.idempotencyKey.updateMany({
        where: { owner, key, holder },
        data: {
          committed: true,
          ...(runId !== null && { runId }),
          ...(accepted !== null && { answer: accepted as unknown as Prisma.InputJsonObject }),
        },
      }),
    );
    return count === 1;
  }

  /** What whoever sends it again is answered. */
  async answer({ owner, key }: IdempotencyRef, holder: string, answer: StoredAnswer): Promise<void> {
    const { status, ...kept } = answer;
    await this.#scope.read(db =>
      db.idempotencyKey.updateMany({
        where: { owner, key, holder, status: null },
        data: { status, answer: kept as unknown as Prisma.InputJsonObject },
      }),
    );
  }

  /** It wrote nothing, and may be sent again as if it had never been. */
  async forget({ owner, key }: IdempotencyRef, holder: string): Promise<void> {
    await this.#scope.read(db =>
      db.idempotencyKey.deleteMany({ where: { owner, key, holder, committed: false, status: null } }),
    );
  }

  /** It was written, and whoever sends it again need not wait for who wrote it. */
  async leave({ owner, key }: IdempotencyRef, holder: string): Promise<void> {
    await this.#scope.read(
      db => db.$executeRaw`
        UPDATE idempotency_key SET lease_until = now() - interval '1 millisecond'
        WHERE owner = ${owner} AND key = ${key} AND holder = ${holder}::uuid AND status IS NULL`,
    );
  }

  /** Returns how many there were. */
  async deleteExpired(): Promise<number> {
    return this.#scope.read(db => db.$executeRaw`DELETE FROM idempotency_key WHERE expires_at < now()`);
  }
}
