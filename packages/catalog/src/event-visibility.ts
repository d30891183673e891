// Which events those see who may only see some volumes: what is about such a volume, the groups that have no other
// members with their runs, and the runs that they have asked for. All of it is one condition of the statement that
// reads the events: a page costs one statement, however many volumes there are, and looks up the volumes of its own
// events alone.
import { Prisma } from './generated/client.ts';
import type { Db } from './scope.ts';
import type { Viewer } from './visibility.ts';
import { isGroupInside, isRunOfViewer, isVolumeInside } from './visible-rows.ts';

/** Of what belongs to one volume. Others that name one, such as a policy, are about more. */
const OF_A_VOLUME = Prisma.sql`('volume', 'checkpoint', 'snapshot', 'commit', 'backup', 'run')`;

/** For after WHERE, about `event AS e`. */
export function eventVisibility(viewer: Viewer): Prisma.Sql {
  return Prisma.sql`CASE
    WHEN e.subject_type = 'group' THEN ${isGroupInside(Prisma.sql`e.subject_id`, viewer.visible)}
    WHEN e.subject_type NOT IN ${OF_A_VOLUME} THEN FALSE
    WHEN ${isVolumeInside(Prisma.sql`e.volume_id`, viewer.visible)} THEN TRUE
    WHEN e.subject_type = 'run' THEN
      EXISTS (SELECT 1 FROM run WHERE run.id = e.subject_id AND ${isRunOfViewer(viewer)})
    ELSE FALSE END`;
}

/** Those of the events that they see. */
export async function visibleEventIds(db: Db, viewer: Viewer, ids: readonly bigint[]): Promise<Set<bigint>> {
  if (ids.length === 0) return new Set();
  const rows = await db.$queryRaw<{ id: bigint }[]>`
    SELECT e.id FROM event AS e WHERE e.id = ANY(${[...ids]}) AND ${eventVisibility(viewer)}`;
  return new Set(rows.map(({ id }) => id));
}
