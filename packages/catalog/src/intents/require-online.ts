// Whether a storage node can be asked for anything, and whether anything new may go there.
import { TidemarkError } from '@tidemark/proto';
import type { StorageNode } from '../storage-node-repository.ts';

/** Passes a storage node that is online; refuses one that is known not to answer, or has not joined yet. */
export function requireOnline(node: StorageNode): void {
  if (node.state === 'joining') {
    throw new TidemarkError(
      'storage-node-not-ready',
      `Storage node '${node.name}' is joining. Wait until its register-storage-node run has ` +
        'ended, then try again.',
    );
  }
  if (node.state === 'lost') {
    throw new TidemarkError(
      'storage-node-lost',
      `Storage node '${node.name}' is lost for good. Use another one; what it had can be restored from backups.`,
    );
  }
  if (node.state === 'unreachable') {
    const seen = node.lastSeenAt ? ` since ${node.lastSeenAt.toISOString()}` : '';
    throw new TidemarkError(
      'storage-node-unreachable',
      `Storage node '${node.name}' has not answered at ${node.controlAddress}${seen}. Start ` +
        'it or repair its connection, then try again.',
    );
  }
}

/** As `requireOnline`, and refuses one that is cordoned. */
export function requireOpen(node: StorageNode): void {
  requireOnline(node);
  if (node.cordonedAt === null) return;
  throw new TidemarkError(
    'storage-node-cordoned',
    `Storage node '${node.name}' is cordoned since ${node.cordonedAt.toISOString()}: nothing new goes there. ` +
      'Choose another one, or uncordon it first.',
  );
}
