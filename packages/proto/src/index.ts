// All that crosses a process: gRPC messages and clients, error codes, queue payloads, health checks, settings.
export * from './client.ts';
export * from './error-codes.ts';
export * from './errors.ts';
export * from './generated/tidemark/v1/common.ts';
export * from './generated/tidemark/v1/group.ts';
export * from './generated/tidemark/v1/job.ts';
export * from './generated/tidemark/v1/repository.ts';
export * from './generated/tidemark/v1/snapshot.ts';
export * from './generated/tidemark/v1/storage_node.ts';
export * from './generated/tidemark/v1/volume.ts';
export * from './health-server.ts';
export * from './host-port.ts';
export * from './kill-points.ts';
export * from './queues.ts';
export * from './run-requests.ts';
export * from './selector.ts';
export * from './settings.ts';
