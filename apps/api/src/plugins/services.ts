// One service a noun, made once from the catalog and the queue. Routes call these and nothing below them.
import { type PassPoint, WebhookSecrets } from '@tidemark/proto';
import fastifyPlugin from 'fastify-plugin';
import { BackupService } from '../backups/backup-service.ts';
import { VerifyService } from '../backups/verify-service.ts';
import { ChangeService } from '../checkpoints/change-service.ts';
import { CheckpointService } from '../checkpoints/checkpoint-service.ts';
import { CommitService } from '../commits/commit-service.ts';
import { DifferenceService } from '../differences/difference-service.ts';
import { EventService } from '../events/event-service.ts';
import { ExportService } from '../exports/export-service.ts';
import { GroupService } from '../groups/group-service.ts';
import { PolicyService } from '../policies/policy-service.ts';
import { ReplicationService } from '../replication/replication-service.ts';
import { RepositoryService } from '../repositories/repository-service.ts';
import { RestoreService } from '../restores/restore-service.ts';
import { RetentionService } from '../retention/retention-service.ts';
import { RunService } from '../runs/run-service.ts';
import { RunStarter } from '../runs/run-starter.ts';
import { RunWaits } from '../runs/run-waits.ts';
import { SnapshotService } from '../snapshots/snapshot-service.ts';
import { CareService } from '../storage-nodes/care-service.ts';
import { JoinService } from '../storage-nodes/join-service.ts';
import { StorageNodeService } from '../storage-nodes/storage-node-service.ts';
import { AuditService } from '../volumes/audit-service.ts';
import { VolumeService } from '../volumes/volume-service.ts';
import { WebhookService } from '../webhooks/webhook-service.ts';

declare module 'fastify' {
  interface FastifyInstance {
    joins: JoinService;
    care: CareService;
    storageNodes: StorageNodeService;
    volumes: VolumeService;
    checkpoints: CheckpointService;
    changes: ChangeService;
    snapshots: SnapshotService;
    commits: CommitService;
    groups: GroupService;
    repositories: RepositoryService;
    backups: BackupService;
    verifications: VerifyService;
    momentExports: ExportService;
    restores: RestoreService;
    retention: RetentionService;
    replications: ReplicationService;
    policies: PolicyService;
    runs: RunService;
    events: EventService;
    webhooks: WebhookService;
    differences: DifferenceService;
    audits: AuditService;
  }
}

export const services = fastifyPlugin<{ pass: PassPoint | undefined; webhookKeys: readonly string[] }>(
  async (app, { pass, webhookKeys }) => {
    const starter = new RunStarter({ catalog: app.catalog, queue: app.runQueue, log: app.log, pass });
    const { catalog, eventHub, log } = app;
    const waits = new RunWaits({ catalog, log, follow: heard => eventHub.onNews(heard) });
    const runs = new RunService(app.catalog, waits);
    app.decorate('care', new CareService(app.catalog, starter));
    app.decorate('joins', new JoinService(app.catalog, starter));
    app.decorate('storageNodes', new StorageNodeService(app.catalog, starter));
    app.decorate('volumes', new VolumeService(app.catalog, starter));
    app.decorate('checkpoints', new CheckpointService(app.catalog, starter, app.liveFacts));
    app.decorate('changes', new ChangeService(app.catalog, app.liveFacts));
    app.decorate('snapshots', new SnapshotService(app.catalog, starter));
    app.decorate('commits', new CommitService(app.catalog, starter));
    app.decorate('groups', new GroupService(app.catalog, starter));
    app.decorate('repositories', new RepositoryService(app.catalog, starter, app.liveFacts));
    app.decorate('backups', new BackupService(app.catalog, starter));
    app.decorate('verifications', new VerifyService(starter));
    app.decorate('momentExports', new ExportService(starter));
    app.decorate('restores', new RestoreService(starter));
    app.decorate('retention', new RetentionService(app.catalog, starter));
    app.decorate('replications', new ReplicationService(app.catalog, starter));
    app.decorate('policies', new PolicyService(app.catalog));
    app.decorate('runs', runs);
    app.decorate('events', new EventService(app.catalog, app.eventHub));
    app.decorate('webhooks', new WebhookService(app.catalog, new WebhookSecrets(webhookKeys)));
    app.decorate('audits', new AuditService(app.catalog, starter));
    app.decorate('differences', new DifferenceService(app.catalog, starter));
    // Before anything is begun: who could not wait for it might ask again, and have it twice.
    app.addHook('preValidation', async ({ query }) => {
      const { wait } = query as { wait?: unknown };
      if (wait === 'done' || wait === 'checkpoint') waits.requireRoom();
    });
    app.addHook('preClose', async () => runs.stopWaiting());
  },
  { name: 'services', dependencies: ['catalog', 'queue', 'live-facts', 'event-hub'] },
);
