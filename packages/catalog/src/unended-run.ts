// Runs that keep others from a volume.

/**
 * For `where`: runs that have not ended and need the volume to stay as it is. A verification is about a volume, and
 * reads a backup of it alone.
 */
export function needsVolume(volumeId: string | { in: string[] }) {
  return { volumeId, state: { in: ['queued', 'running'] }, kind: { not: 'verify' } };
}
