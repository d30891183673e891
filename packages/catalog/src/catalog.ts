// The catalog: one connection pool, one repository a noun, and transactions over all of them.
import { PrismaPg } from '@prisma/adapter-pg';
import type { Acting } from './acting.ts';
import { AdmissionRepository } from './admission-repository.ts';
import { AdoptionRepository } from './adoption-repository.ts';
import { ApiTokenRepository } from './api-token-repository.ts';
import { AuditRepository } from './audit-repository.ts';
import { BackupDamageRepository } from './backup-damage-repository.ts';
import { BackupLeaseRepository } from './backup-lease-repository.ts';

import { BackupRepository } from './backup-repository.ts';
import { CheckpointRepository } from './checkpoint-repository.ts';
import { CommitRepository } from './commit-repository.ts';
import { DifferenceRepository } from './difference-repository.ts';
import { EventRepository } from './event-repository.ts';
import { FiringReplicaRepository } from './firing-replica-repository.ts';
import { FiringRepository } from './firing-repository.ts';
import { PrismaClient } from './generated/client.ts';
import { GroupRepository } from './group-repository.ts';
import { IdempotencyRepository } from './idempotency-repository.ts';
import { InventoryRepository } from './inventory-repository.ts';
import { JoinTokenRepository } from './join-token-repository.ts';
import { LossRepository } from './loss-repository.ts';
import { MetricsRepository } from './metrics-repository.ts';
import { MoveRepository } from './move-repository.ts';
import { PolicyRepository } from './policy-repository.ts';
import { ReplicationRuleRepository } from './replication-rule-repository.ts';
import { RepositoryRepository } from './repository-repository.ts';
import { RetentionRepository } from './retention-repository.ts';
import { RowLockRepository } from './row-lock-repository.ts';
import { RunHistoryRepository } from './run-history-repository.ts';
import { RunLeaseRepository } from './run-lease-repository.ts';
import { RunRepository } from './run-repository.ts';
import { ClientScope, type Scope, type TransactionFrame } from './scope.ts';
import { SnapshotRepository } from './snapshot-repository.ts';
import { StorageNodeRepository } from './storage-node-repository.ts';
import { VerificationRepository } from './verification-repository.ts';
import { VolumeRepository } from './volume-repository.ts';
import { WebhookDeliveryRepository } from './webhook-delivery-repository.ts';
import { WebhookRepository } from './webhook-repository.ts';

export interface CatalogOptions {
  /** Connections of the pool; 10 unless told. */
  connectionsMax?: number;
  clock?: () => Date;
  /** On whose behalf it is used at the moment of the call; nobody's but the system's unless told. */
  acting?: () => Acting | null;
}

/** A database that is away has to be noticed while an operator waits. */
const CONNECT_TIMEOUT_MS = 5_000;
const CONNECTIONS_DEFAULT = 10;
/** A process that freezes within a transaction must not hold rows, or the writers of events, for longer. */
const IDLE_IN_TRANSACTION_MS = 3_000;

class Nouns {
  readonly storageNodes: StorageNodeRepository;
  readonly volumes: VolumeRepository;
  readonly joinTokens: JoinTokenRepository;
  /** Of storage nodes, for good. */
  readonly losses: LossRepository;
  /** Of volumes, from one storage node to another. */
  readonly moves: MoveRepository;
  readonly checkpoints: CheckpointRepository;
  readonly snapshots: SnapshotRepository;
  readonly commits: CommitRepository;
  readonly groups: GroupRepository;
  readonly repositories: RepositoryRepository;
  readonly backups: BackupRepository;
  readonly backupLeases: BackupLeaseRepository;
  readonly backupDamage: BackupDamageRepository;
  readonly replicationRules: ReplicationRuleRepository;
  readonly retention: RetentionRepository;
  readonly verifications: VerificationRepository;
  readonly policies: PolicyRepository;
  readonly firings: FiringRepository;
  /** Their backups on the way to other repositories. */
  readonly firingReplicas: FiringReplicaRepository;
  /** Members of firings as a worker drives them. */
  readonly admissions: AdmissionRepository;
  readonly runs: RunRepository;
  /** Runs as a worker drives them. */
  readonly leases: RunLeaseRepository;
  /** Runs that go for their age. */
  readonly runHistory: RunHistoryRepository;
  readonly events: EventRepository;
  readonly webhooks: WebhookRepository;
  readonly metrics: MetricsRepository;
  /** Webhooks as a worker serves them. */
  readonly webhookDeliveries: WebhookDeliveryRepository;
  readonly differences: DifferenceRepository;
  readonly tokens: ApiTokenRepository;
  readonly auditLog: AuditRepository;
  readonly idempotency: IdempotencyRepository;
  readonly rowLocks: RowLockRepository;
  /** What the reconciler reads, and what it writes when it adopts or forgets. */
  readonly inventory: InventoryRepository;
  readonly adoption: AdoptionRepository;

  constructor(scope: Scope) {
    this.storageNodes = new StorageNodeRepository(scope);
    this.volumes = new VolumeRepository(scope);
    this.losses = new LossRepository(scope);
    this.joinTokens = new JoinTokenRepository(scope);
    this.moves = new MoveRepository(scope);
    this.checkpoints = new CheckpointRepository(scope);
    this.snapshots = new SnapshotRepository(scope);
    this.commits = new CommitRepository(scope);
    this.groups = new GroupRepository(scope);
    this.repositories = new RepositoryRepository(scope);
    this.backups = new BackupRepository(scope);
    this.backupLeases = new BackupLeaseRepository(scope);
    this.backupDamage = new BackupDamageRepository(scope);
    this.replicationRules = new ReplicationRuleRepository(scope);
    this.retention = new RetentionRepository(scope);
    this.verifications = new VerificationRepository(scope);
    this.policies = new PolicyRepository(scope);
    this.firings = new FiringRepository(scope);
    this.firingReplicas = new FiringReplicaRepository(scope);
    this.admissions = new AdmissionRepository(scope);
    this.runs = new RunRepository(scope);
    this.leases = new RunLeaseRepository(scope);
    this.runHistory = new RunHistoryRepository(scope);
    this.events = new EventRepository(scope);
    this.webhooks = new WebhookRepository(scope);
    this.metrics = new MetricsRepository(scope);
    this.webhookDeliveries = new WebhookDeliveryRepository(scope);
    this.differences = new DifferenceRepository(scope);
    this.tokens = new ApiTokenRepository(scope);
    this.auditLog = new AuditRepository(scope);
    this.idempotency = new IdempotencyRepository(scope);
    this.rowLocks = new RowLockRepository(scope);
    this.inventory = new InventoryRepository(scope);
    this.adoption = new AdoptionRepository(scope);
  }
}

/** The repositories within one transaction. */
export type CatalogTransaction = Nouns;

const frame: TransactionFrame = {
  begin: async scope => scope.acting()?.begin?.(new Nouns(scope)),
  commit: async scope => scope.acting()?.commit?.(new Nouns(scope), scope.runIds),
};

export class Catalog extends Nouns {
  readonly #client: PrismaClient;
  readonly #scope: ClientScope;

  private constructor(client: PrismaClient, scope: ClientScope) {
    super(scope);
    this.#client = client;
    this.#scope = scope;
  }

  /** Opens no connection yet: the first query does, and `ping` tells whether one can be had. */
  static connect(databaseUrl: string, options: CatalogOptions = {}): Catalog {
    const adapter = new PrismaPg({
      connectionString: databaseUrl,
      max: options.connectionsMax ?? CONNECTIONS_DEFAULT,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    });
    const client = new PrismaClient({ adapter });
    const { clock = () => new Date(), acting = () => null } = options;
    return new Catalog(client, new ClientScope(client, { now: clock, acting, frame }));
  }

  /**
   * All that `use` does happens at once or, when it rejects, not at all. Do nothing in it but catalog work:
   * it holds a connection, and rows.
   */
  transaction<T>(use: (nouns: CatalogTransaction) => Promise<T>): Promise<T> {
    return this.#scope.transaction(scope => use(new Nouns(scope)));
  }

  /** Rejects `unavailable` when the database does not answer. */
  async ping(): Promise<void> {
    await this.#scope.read(db => db.$queryRaw`SELECT 1`);
  }

  async close(): Promise<void> {
    await this.#client.$disconnect();
  }
}
