// What those see who may only see some volumes, as conditions of statements: each for after WHERE.
import type { Selector } from '@tidemark/proto';
import { Prisma } from './generated/client.ts';
import { selectorCondition } from './selected.ts';
import type { Viewer } from './visibility.ts';

/** The volume of that id has such labels; or it had them at its end, as long as the event of that is kept. */
export function isVolumeInside(id: Prisma.Sql, visible: Selector): Prisma.Sql {
  const labels = selectorCondition(visible);
  // One that was found again may have ended several times: the last end counts.
  return Prisma.sql`COALESCE((SELECT ${labels} FROM volume WHERE volume.id = ${id}), (
    SELECT ${labels} FROM (
      SELECT ending.data -> 'labels' AS labels FROM event AS ending
      WHERE ending.subject_id = ${id} AND ending.kind = 'volume-deleted' ORDER BY ending.id DESC LIMIT 1) AS last),
    FALSE)`;
}

/**
 * The group of that id has members, and no volume of them is outside or gone; or it is gone itself, and no volume that
 * it had at its end is outside, as long as the event of that is kept.
 */
export function isGroupInside(id: Prisma.Sql, visible: Selector): Prisma.Sql {
  const labels = selectorCondition(visible);
  const isMemberInside = isVolumeInside(Prisma.sql`member.id::uuid`, visible);
  return Prisma.sql`CASE WHEN EXISTS (SELECT 1 FROM checkpoint_group AS g WHERE g.id = ${id}) THEN
    EXISTS (SELECT 1 FROM checkpoint_group_member AS m WHERE m.group_id = ${id})
    AND NOT EXISTS (SELECT 1 FROM checkpoint_group_member AS m WHERE m.group_id = ${id}
      AND NOT EXISTS (SELECT 1 FROM volume WHERE volume.id = m.volume_id AND ${labels}))
    ELSE EXISTS (SELECT 1 FROM event AS gone WHERE gone.subject_id = ${id} AND gone.kind = 'group-deleted'
      AND jsonb_array_length(gone.data -> 'volumeIds') > 0
      AND NOT EXISTS (SELECT 1 FROM jsonb_array_elements_text(gone.data -> 'volumeIds') AS member(id)
        WHERE NOT ${isMemberInside})) END`;
}

/** About `run`, whatever volume it is of: they have asked for it, or it makes or deletes a group that they see. */
export function isRunOfViewer({ name, visible }: Viewer): Prisma.Sql {
  const group = Prisma.sql`(run.request ->> 'groupId')::uuid`;
  return Prisma.sql`(run.requested_by = ${name} OR CASE WHEN run.kind IN ('create-group', 'delete-group')
    THEN ${isGroupInside(group, visible)} ELSE FALSE END)`;
}

/** About `run`. */
export const isRunVisible = (viewer: Viewer): Prisma.Sql =>
  Prisma.sql`(${isRunOfViewer(viewer)} OR ${isVolumeInside(Prisma.sql`run.volume_id`, viewer.visible)})`;
