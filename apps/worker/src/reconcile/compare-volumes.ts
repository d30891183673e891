// Volumes and what belongs to them: about their existence and their bitmaps the storage node is right, about names
// and intents the catalog.
import { type Inventory, isId } from '@tidemark/catalog';
import type { Volume } from '@tidemark/proto';
import { type Find, hasGivenUp, type RunsAbout } from './found-difference.ts';
import type { NodeView } from './node-view.ts';

interface Sides {
  readonly catalog: Inventory;
  readonly node: NodeView;
  readonly runsAbout: RunsAbout;
}

export function compareVolumes(sides: Sides, find: Find): void {
  const { catalog, node } = sides;
  const there = new Map(node.volumes.map(one => [one.volume.volumeId, one]));
  for (const row of catalog.volumes) {
    const volume = there.get(row.id)?.volume;
    if (volume) compareVolume(row, volume, find);
    else missingVolume(row, find);
  }
  const rows = new Set(catalog.volumes.map(({ id }) => id));
  const elsewhere = new Set(catalog.elsewhere.map(({ id }) => id));
  const checkpoints = Map.groupBy(catalog.checkpoints, ({ volumeId }) => volumeId);
  const rowsOfSnapshots = Map.groupBy(catalog.snapshots, ({ volumeId }) => volumeId);
  for (const { volume, snapshots } of node.volumes) {
    if (!isId(volume.volumeId)) continue;
    if (elsewhere.has(volume.volumeId)) {
      elsewhereVolume(volume, find);
      continue;
    }
    if (!rows.has(volume.volumeId)) unknownVolume(volume, sides, find);
    compareCheckpoints(volume, checkpoints.get(volume.volumeId) ?? [], { runsAbout: sides.runsAbout, find });
    compareSnapshots(volume.volumeId, snapshots, { rows: rowsOfSnapshots.get(volume.volumeId) ?? [], find });
  }
}

/** What is sealed, or was never opened, holds nothing that its owner has not. */
function elsewhereVolume({ volumeId, name, state }: Volume, find: Find): void {
  const what = `The storage node has volume '${name}', which is a volume of another one by the catalog`;
  if (state === 'sealed' || state === 'arrived') {
    const text = `${what}: it is left over from a move, and served to nobody.`;
    find('volume-unknown', volumeId, text, { actions: ['remove'], safe: 'remove' });
    return;
  }
  const text =
    `${what}. Two storage nodes serve it, each with writes of its own since: keep guests off this one, save what you ` +
    'need of it, and remove it.';
  find('volume-unknown', volumeId, text, { actions: ['remove'] });
}

type VolumeRow = Inventory['volumes'][number];

function compareVolume(row: VolumeRow, volume: Volume, find: Find): void {
  const { id, name, sizeBytes, exportUri } = row;
  if (row.state === 'creating') {
    const text = `Volume '${name}' is there, but its row still says that it is being made, and no run makes it.`;
    find('volume-creating-left', id, text, { actions: ['adopt'], safe: 'adopt' });
    return;
  }
  if (row.state === 'deleting') {
    const text = `Volume '${name}' is to be deleted, no run deletes it, and its storage node still has it.`;
    find('volume-deleting-left', id, `${text} Keep it, and delete it again if it should go.`, {
      actions: ['keep'],
    });
    return;
  }
  if (volume.state === 'arrived') {
    const text = `Volume '${name}' has moved here, and was never opened: nobody serves it.`;
    find('volume-arrived-left', id, text, { safe: 'open' });
    return;
  }
  if (volume.state === 'sealed') {
    const text = `Volume '${name}' was to move away and did not, and is still sealed: nobody serves it.`;
    find('volume-sealed-left', id, text, { safe: 'unseal' });
    return;
  }
  const facts = { name: volume.name, sizeBytes: volume.sizeBytes, exportUri: volume.exportUri };
  if (volume.name !== name) {
    const text = `Volume '${name}' is called '${volume.name}' by its storage node, and exported under that name.`;
    find('volume-differs', id, `${text} Accept it to take that name.`, { facts });
  } else if (volume.sizeBytes !== sizeBytes || volume.exportUri !== exportUri) {
    const told = `${volume.sizeBytes} bytes at ${volume.exportUri}`;
    const text = `Volume '${name}' has ${told}; its row says ${sizeBytes} bytes at ${exportUri}.`;
    find('volume-differs', id, text, { facts, safe: 'accept' });
  } else if ((volume.source?.backupId || null) !== row.sourceBackupId) {
    const reads = volume.source ? `reads from backup ${volume.source.backupId}` : 'stands alone';
    const text = `Volume '${name}' ${reads}, and its row says otherwise.`;
    find('volume-differs', id, text, { facts, safe: 'accept' });
  }
}

function missingVolume({ id, name, state }: VolumeRow, find: Find): void {
  if (state === 'creating') {
    const text = `Volume '${name}' was never made, and no run makes it any more.`;
    find('volume-creating-left', id, text, { actions: ['forget'], safe: 'forget' });
  } else if (state === 'deleting') {
    const text = `Volume '${name}' is gone from its storage node; only its row is left.`;
    find('volume-deleting-left', id, text, { actions: ['forget'], safe: 'forget' });
  } else {
    find(
      'volume-missing',
      id,
      `Its storage node does not have volume '${name}', or cannot open it: see its log. Bring the volume's folder ` +
        'back, restore it from a backup, or forget it.',
    );
  }
}

function unknownVolume(volume: Volume, { catalog, runsAbout }: Sides, find: Find): void {
  const { volumeId, name, sizeBytes } = volume;
  const maker = runsAbout(volumeId, ['create-volume', 'restore']);
  // One that was made may have no export for other reasons, such as a repository that is away.
  if (volume.exportUri === '' && maker && hasGivenUp(maker)) {
    const text = `Volume '${name}' was never completely restored: ${maker.kind} run ${maker.id} has ${maker.state}.`;
    find('restoring-left', volumeId, text, { safe: 'remove' });
    return;
  }
  const facts = { name, sizeBytes };
  const what = `The storage node has volume '${name}' (${volumeId}), of which the catalog knows nothing.`;
  const past = runsAbout(volumeId, ['create-volume', 'restore', 'delete-volume']);
  const isTaken = [...catalog.volumes, ...catalog.elsewhere].some(
    one => one.name === name && (!('noun' in one) || one.noun === 'volume'),
  );
  if (isTaken) {
    const text = `${what} Its name is taken by another volume: delete that one, then adopt this one.`;
    find('volume-unknown', volumeId, text, { facts });
  } else if (past) {
    const text = `${what} ${past.kind} run ${past.id} has ${past.state}. Adopt it, or remove it with all its data.`;
    find('volume-unknown', volumeId, text, { facts });
  } else {
    find('volume-unknown', volumeId, `${what} It can be adopted.`, { facts, safe: 'adopt' });
  }
}

function compareCheckpoints(
  volume: Volume,
  rowsOfVolume: Inventory['checkpoints'],
  { runsAbout, find }: { runsAbout: RunsAbout; find: Find },
): void {
  const { volumeId } = volume;
  const touches = [volumeId];
  const rows = new Map(rowsOfVolume.map(row => [row.id, row]));
  for (const { checkpointId: id, name, description, inconsistent } of volume.checkpoints) {
    if (!isId(id)) continue;
    const row = rows.get(id);
    const where = `of volume '${volume.name}'`;
    if (inconsistent) {
      const text =
        `What changed since checkpoint '${name}' ${where} cannot be trusted. It is no base any more: the next ` +
        'backup is full and says so.';
      find('checkpoint-inconsistent', id, text, { touches });
    }
    if (!row) {
      const twin = [...rows.values()].find(one => one.name === name);
      unknownCheckpoint({ id, name, where, isTaken: twin !== undefined, volumeId }, runsAbout, find);
    } else if (row.state === 'creating') {
      const text = `Checkpoint '${name}' ${where} is there, but its row says that it is being made, and no run does.`;
      find('checkpoint-creating-left', id, text, { touches, actions: ['adopt'], safe: 'adopt' });
    } else if (row.state === 'deleting') {
      const text = `Checkpoint '${name}' ${where} was to be deleted, no run deletes it, and it is there.`;
      find('checkpoint-deleting-left', id, `${text} It is kept: delete it again if it should go.`, {
        ...{ touches, actions: ['keep'], safe: 'keep' },
      });
    } else if (row.name !== name || row.description !== description) {
      const text = `Checkpoint '${row.name}' ${where} is called '${name}' by its storage node, or described otherwise.`;
      const facts = { name: row.name, description: row.description };
      find('checkpoint-differs', id, text, { touches, facts, safe: 'rename' });
    }
  }
  const there = new Set(volume.checkpoints.map(({ checkpointId }) => checkpointId));
  for (const { id, name, state } of rows.values()) {
    if (there.has(id)) continue;
    if (state === 'creating') {
      const text = `Checkpoint '${name}' of volume '${volume.name}' was never made, and no run makes it any more.`;
      find('checkpoint-creating-left', id, text, { touches, actions: ['forget'], safe: 'forget' });
      continue;
    }
    if (state === 'deleting') {
      const text = `Checkpoint '${name}' of volume '${volume.name}' is deleted; only its row is left.`;
      find('checkpoint-deleting-left', id, text, { touches, actions: ['forget'], safe: 'forget' });
      continue;
    }
    const text =
      `The storage node has no bitmap of checkpoint '${name}' of volume '${volume.name}': no increment can build ` +
      'on it. Its backups are whole. Forget it.';
    find('checkpoint-missing', id, text, { touches });
  }
}

interface UnknownCheckpoint {
  readonly id: string;
  readonly name: string;
  /** Of which volume, in words. */
  readonly where: string;
  readonly isTaken: boolean;
  readonly volumeId: string;
}

function unknownCheckpoint(unknown: UnknownCheckpoint, runsAbout: RunsAbout, find: Find): void {
  const { id, name, where, isTaken, volumeId } = unknown;
  const more = { touches: [volumeId], facts: { name, volumeId } };
  const past = runsAbout(id, ['backup', 'create-checkpoint', 'delete-checkpoint']);
  const what = `The storage node has checkpoint '${name}' ${where}, and the catalog does not.`;
  // What a run that failed was to build on is none of its leftovers.
  const isItsOwn = past?.checkpointId === id;
  const isLeftover = isItsOwn && (past?.kind === 'delete-checkpoint' || hasGivenUp(past));
  if (past && isLeftover) {
    const text = `${what} It is left over from ${past.kind} run ${past.id}, which has ${past.state}.`;
    // Merging loses no bit of any increment.
    find('checkpoint-unknown', id, text, { ...more, safe: 'merge' });
  } else if (isTaken) {
    const text = `${what} Another checkpoint has its name: rename that one, then adopt this one; or merge it.`;
    find('checkpoint-unknown', id, text, more);
  } else {
    find('checkpoint-unknown', id, `${what} It can be adopted.`, { ...more, safe: 'adopt' });
  }
}

function compareSnapshots(
  volumeId: string,
  snapshots: NodeView['volumes'][number]['snapshots'],
  { rows, find }: { rows: Inventory['snapshots']; find: Find },
): void {
  const touches = [volumeId];
  for (const { snapshotId, name } of snapshots) {
    if (!isId(snapshotId)) continue;
    const row = rows.find(one => one.id === snapshotId);
    if (row?.state === 'ready') continue;
    const more = { touches, facts: { name, volumeId }, safe: 'adopt' };
    if (row) {
      const text = `Snapshot '${name}' was taken, but its row says that it is being made, and no run does.`;
      find('snapshot-creating-left', snapshotId, text, { ...more, actions: ['adopt'] });
    } else {
      const text = `The storage node has snapshot '${name}', and the catalog does not. It can be adopted.`;
      find('snapshot-unknown', snapshotId, text, more);
    }
  }
  const there = new Set(snapshots.map(({ snapshotId }) => snapshotId));
  for (const { id, name, state } of rows.filter(row => !there.has(row.id))) {
    if (state === 'creating') {
      const text = `Snapshot '${name}' was never taken, and no run takes it any more.`;
      find('snapshot-creating-left', id, text, { touches, actions: ['forget'], safe: 'forget' });
    } else {
      const text = `The storage node does not have snapshot '${name}': a commit overwrote it. Forget it.`;
      find('snapshot-missing', id, text, { touches });
    }
  }
}
