// Groups are made and deleted by one run for all members, which is about no volume in particular: only the members tell
// that it works on one.
import { CatalogError } from './errors.ts';
import type { Db } from './scope.ts';

/** Rejects `volume-busy`. Hold the volume's row while the answer has to stay true. */
export async function requireNoGroup(db: Db, volume: { id: string; name: string }): Promise<void> {
  const group = { state: { in: ['creating', 'deleting'] } };
  const member = await db.checkpointGroupMember.findFirst({
    where: { volumeId: volume.id, group },
    include: { group: true },
  });
  if (!member) return;
  const { name, state } = member.group;
  const text = `Volume '${volume.name}' belongs to group '${name}', which is ${state}. Wait for it, or cancel its run.`;
  throw new CatalogError('volume', 'busy', text);
}
