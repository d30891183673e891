// Moments in answers are text in UTC.

export const iso = (moment: Date): string => moment.toISOString();

export const isoOrNull = (moment: Date | null): string | null => (moment === null ? null : iso(moment));
