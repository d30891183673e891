// Storage nodes as the catalog knows them: name, address, and what they last said of themselves.
import { type Labels, TidemarkError } from '@tidemark/proto';
import {
  CatalogError,
  isForeignKeyViolation,
  isUniqueViolation,
  nameTaken,
  notFound,
  violatedIndex,
} from './errors.ts';
import type { StorageNodeModel } from './generated/models.ts';
import { type Page, type PageOptions, pageQuery, toPage } from './page.ts';
import { byRef } from './ref.ts';
import type { Scope } from './scope.ts';
import { type ChosenFilter, chosenIds } from './selected.ts';

/** `lost`: for good, as an operator said. */
export type StorageNodeState = 'joining' | 'online' | 'unreachable' | 'lost';

export interface StorageNode {
  id: string;
  name: string;
  /** host:port of its gRPC service. */
  controlAddress: string;
  /** host:port of its NBD server; null until it was reached once. */
  nbdAddress: string | null;
  state: StorageNodeState;
  /** Nothing new goes there since then. */
  cordonedAt: Date | null;
  /** Of one that was given up: where it was reached, and may come back. */
  lostAddress: string | null;
  instanceId: string | null;
  version: string | null;
  capacityBytes: number | null;
  availableBytes: number | null;
  lastSeenAt: Date | null;
  labels: Labels;
  createdAt: Date;
  /** Backups of its volumes at the same time, until policies wait. */
  maxConcurrentBackups: number;
}

/** What a storage node answered to GetStatus. */
export interface StorageNodeReport {
  instanceId: string;
  nbdAddress: string;
  version: string;
  capacityBytes: number;
  availableBytes: number;
  /** Those of its settings; other keys stay as they are. Default none. */
  labels?: Labels;
}

const bytes = (value: bigint | null) => (value === null ? null : Number(value));

function toStorageNode(row: StorageNodeModel): StorageNode {
  return {
    ...row,
    state: row.state as StorageNodeState,
    labels: row.labels as Labels,
    capacityBytes: bytes(row.capacityBytes),
    availableBytes: bytes(row.availableBytes),
  };
}

/** Of a storage node, what it takes to call it. */
export type StorageNodePlace = Pick<StorageNode, 'id' | 'name' | 'controlAddress'>;

const PLACE = { id: true, name: true, controlAddress: true } as const;

const ADDRESS_INDEX = 'storage_node_control_address_key';

function addressTaken(address: string, owner: string | null, cause?: unknown): CatalogError {
  const whose = owner === null ? 'another storage node' : `storage node '${owner}'`;
  const text = `Address ${address} belongs to ${whose}. Use that name, or remove it first.`;
  return new CatalogError('storage-node', 'address-taken', text, cause);
}

function givenUp(name: string): TidemarkError {
  const text = `Storage node '${name}' was given up as lost: what it answers changes nothing. Let it join anew, empty.`;
  return new TidemarkError('storage-node-lost', text);
}

export class StorageNodeRepository {
  readonly #scope: Scope;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** State `joining`. Rejects `name-taken`, `address-taken`. */
  create(node: { id: string; name: string; controlAddress: string; labels?: Labels }): Promise<StorageNode> {
    return this.#scope.write(async (db, tell) => {
      const neighbour = await db.storageNode.findUnique({ where: { controlAddress: node.controlAddress } });
      if (neighbour && neighbour.name !== node.name) throw addressTaken(node.controlAddress, neighbour.name);
      const row = await db.storageNode.create({ data: { ...node, state: 'joining' } }).catch(error => {
        // Another was added in this moment.
        const isAddress = isUniqueViolation(error) && violatedIndex(error) === ADDRESS_INDEX;
        if (isAddress) throw addressTaken(node.controlAddress, null, error);
        return nameTaken('storage-node', node.name)(error);
      });
      tell({
        kind: 'storage-node-added',
        subjectType: 'storage-node',
        subjectId: row.id,
        data: { name: row.name },
      });
      return toStorageNode(row);
    });
  }

  async find(ref: string): Promise<StorageNode | null> {
    const row = await this.#scope.read(db => db.storageNode.findUnique({ where: byRef(ref) }));
    return row && toStorageNode(row);
  }

  /** Rejects `not-found`. */
  async get(ref: string): Promise<StorageNode> {
    const node = await this.find(ref);
    if (!node) throw notFound('storage-node', ref);
    return node;
  }

  /** In the order of the ids. Rejects `not-found`. */
  async getAll(ids: readonly string[]): Promise<StorageNode[]> {
    const rows = await this.#scope.read(db => db.storageNode.findMany({ where: { id: { in: [...ids] } } }));
    const found = new Map(rows.map(row => [row.id, toStorageNode(row)]));
    return ids.map(id => {
      const node = found.get(id);
      if (node === undefined) throw notFound('storage-node', id);
      return node;
    });
  }

  /** Where the one that a volume lives on can be called. Rejects `volume-not-found`. */
  async ofVolume(volumeId: string): Promise<StorageNodePlace> {
    const query = { where: { id: volumeId }, select: { storageNode: { select: PLACE } } };
    const row = await this.#scope.read(db => db.volume.findUnique(query));
    if (row === null) throw notFound('volume', volumeId);
    return row.storageNode;
  }

  /** The same of a repository. Rejects `repository-not-found`. */
  async ofRepository(repositoryId: string): Promise<StorageNodePlace> {
    const query = { where: { id: repositoryId }, select: { storageNode: { select: PLACE } } };
    const row = await this.#scope.read(db => db.repository.findUnique(query));
    if (row === null) throw notFound('repository', repositoryId);
    return row.storageNode;
  }

  /** Oldest first. */
  list(options: PageOptions & Omit<ChosenFilter, 'storageNodeId'> = {}): Promise<Page<StorageNode>> {
    const { after, orderBy, take, limit } = pageQuery(options, 'asc');
    return this.#scope.read(async db => {
      const where = { AND: [after, await chosenIds(db, 'storage_node', options)] };
      return toPage(await db.storageNode.findMany({ where, orderBy, take }), limit, toStorageNode);
    });
  }

  /** Labels are replaced. Rejects `not-found`. */
  update(id: string, changes: { labels?: Labels; maxConcurrentBackups?: number }): Promise<StorageNode> {
    const { labels, maxConcurrentBackups } = changes;
    const data = {
      ...(labels !== undefined && { labels }),
      ...(maxConcurrentBackups !== undefined && { maxConcurrentBackups }),
    };
    return this.#scope.write(async (db, tell) => {
      const row = await db.storageNode.updateManyAndReturn({ where: { id }, data });
      if (!row[0]) throw notFound('storage-node', id);
      tell({ kind: 'storage-node-updated', subjectType: 'storage-node', subjectId: id, data });
      return toStorageNode(row[0]);
    });
  }

  /** From here on nothing new goes there, or something may again. Good to repeat. Rejects `not-found`. */
  setCordoned(id: string, isCordoned: boolean): Promise<StorageNode> {
    return this.#scope.write(async (db, tell) => {
      const before = await db.storageNode.findUnique({ where: { id } });
      if (!before) throw notFound('storage-node', id);
      if ((before.cordonedAt !== null) === isCordoned) return toStorageNode(before);
      const cordonedAt = isCordoned ? this.#scope.now() : null;
      const row = await db.storageNode.update({ where: { id }, data: { cordonedAt } });
      const kind = isCordoned ? 'storage-node-cordoned' : 'storage-node-uncordoned';
      tell({ kind, subjectType: 'storage-node', subjectId: id, data: { name: row.name } });
      return toStorageNode(row);
    });
  }

  /**
   * It answered: `online`, seen now, with what it said. Tells an event when the state or the NBD address
   * changed. Rejects `address-taken` when another name already stands for this very storage node, and
   * `storage-node-lost` for one that was given up while it was asked.
   */
  markOnline(id: string, report: StorageNodeReport): Promise<StorageNode> {
    return this.#scope.write(async (db, tell) => {
      // Held: labels that an operator sets at this moment are added to, and not written over.
      await db.$queryRaw`SELECT 1 FROM storage_node WHERE id = ${id}::uuid FOR UPDATE`;
      const before = await db.storageNode.findUnique({ where: { id } });
      if (!before) throw notFound('storage-node', id);
      if (before.state === 'lost') throw givenUp(before.name);
      const row = await db.storageNode
        .update({
          where: { id },
          data: {
            ...{ ...report, state: 'online', lastSeenAt: this.#scope.now() },
            labels: { ...(before.labels as Labels), ...report.labels },
          },
        })
        .catch(async error => {
          if (!isUniqueViolation(error)) throw error;
          throw new CatalogError(
            'storage-node',
            'address-taken',
            `${before.controlAddress} is a storage node that is registered under another name already.`,
            error,
          );
        });
      if (before.state !== 'online' || before.nbdAddress !== report.nbdAddress) {
        const data = { name: row.name, nbdAddress: report.nbdAddress };
        tell({ kind: 'storage-node-online', subjectType: 'storage-node', subjectId: id, data });
      }
      return toStorageNode(row);
    });
  }

  /** It answered as before, and was seen now. False where that is news, or unknown: `markOnline` is for those. */
  async stillOnline(id: string, report: StorageNodeReport): Promise<boolean> {
    const { instanceId, nbdAddress, version, capacityBytes, availableBytes, labels = {} } = report;
    const seen = await this.#scope.single(
      db => db.$executeRaw`
        UPDATE storage_node SET last_seen_at = ${this.#scope.now()},
          capacity_bytes = ${capacityBytes}::bigint, available_bytes = ${availableBytes}::bigint
        WHERE id = ${id}::uuid AND state = 'online' AND instance_id = ${instanceId}
          AND nbd_address = ${nbdAddress} AND version = ${version} AND labels @> ${JSON.stringify(labels)}::jsonb`,
    );
    return seen === 1;
  }

  /**
   * It did not answer. True when that is news, and then an event was told. `seenAt`: when it had last been seen as
   * the look began; nothing happens where somebody has heard of it since.
   */
  markUnreachable(id: string, detail: string, { seenAt }: { seenAt?: Date | null } = {}): Promise<boolean> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.storageNode.updateMany({
        where: { id, state: 'online', ...(seenAt !== undefined && { lastSeenAt: seenAt }) },
        data: { state: 'unreachable' },
      });
      if (count === 1) {
        tell({
          kind: 'storage-node-unreachable',
          subjectType: 'storage-node',
          subjectId: id,
          data: { detail },
        });
      }
      return count === 1;
    });
  }

  /** An unended run that works on it, other than those that add or remove it, or only compare it. */
  async findUnendedRun(id: string): Promise<{ id: string; kind: string } | null> {
    const kind = { notIn: ['register-storage-node', 'remove-storage-node', 'reconcile'] };
    const where = { storageNodeId: id, kind, state: { in: ['queued', 'running'] } };
    return this.#scope.read(db => db.run.findFirst({ where, select: { id: true, kind: true } }));
  }

  /** By name. */
  async repositoryNames(storageNodeId: string): Promise<string[]> {
    const select = { name: true };
    const rows = await this.#scope.read(db =>
      db.repository.findMany({ where: { storageNodeId }, select, orderBy: { name: 'asc' } }),
    );
    return rows.map(({ name }) => name);
  }

  /** What lives on it; with anything it cannot be removed. */
  async countUses(id: string): Promise<{ volumes: number; repositories: number }> {
    const where = { storageNodeId: id };
    return this.#scope.read(async db => ({
      volumes: await db.volume.count({ where }),
      repositories: await db.repository.count({ where }),
    }));
  }

  /** Rejects `not-found`, and `in-use` while volumes or repositories live on it, or a run works on it. */
  delete(id: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const row = await db.storageNode.findUnique({ where: { id } });
      if (!row) throw notFound('storage-node', id);
      const run = await this.findUnendedRun(id);
      if (run) {
        const text = `Storage node '${row.name}' is used by ${run.kind} run ${run.id}. Wait for it, or cancel it.`;
        throw new CatalogError('storage-node', 'in-use', text);
      }
      await db.storageNode.delete({ where: { id } }).catch(error => {
        if (!isForeignKeyViolation(error)) throw error;
        throw new CatalogError(
          'storage-node',
          'in-use',
          `Storage node '${row.name}' still owns volumes or repositories. Delete those first.`,
          error,
        );
      });
      tell({
        kind: 'storage-node-removed',
        subjectType: 'storage-node',
        subjectId: id,
        data: { name: row.name },
      });
    });
  }

  /** The row of one that never answered. Good to repeat; one that has joined is left alone. */
  deleteJoining(id: string): Promise<void> {
    return this.#scope.write(async (db, tell) => {
      const { count } = await db.storageNode.deleteMany({ where: { id, state: 'joining' } });
      if (count === 1) tell({ kind: 'storage-node-removed', subjectType: 'storage-node', subjectId: id });
    });
  }
}
