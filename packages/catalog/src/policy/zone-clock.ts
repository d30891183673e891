// What clocks of a time zone show at an instant, and at which instants they show a given time: none in the hour that
// is left out in spring, two in the one that comes twice in autumn. Local times are numbers, as if they were UTC.
export const DAY_MS = 86_400_000;

export class ZoneClock {
  readonly #format: Intl.DateTimeFormat;

  /** Throws RangeError for a time zone that is not known. */
  constructor(timeZone: string) {
    this.#format = new Intl.DateTimeFormat('en-u-ca-gregory-nu-latn', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
  }

  localMs(instantMs: number): number {
    const shown: Record<string, number> = {};
    for (const { type, value } of this.#format.formatToParts(instantMs)) shown[type] = Number(value);
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = shown;
    const belowSecond = ((instantMs % 1000) + 1000) % 1000;
    return Date.UTC(year, month - 1, day, hour, minute, second) + belowSecond;
  }

  /** In order; none, one or two. */
  instantsOf(localMs: number): number[] {
    const offsets = new Set([-DAY_MS, 0, DAY_MS].map(away => this.#offsetMs(localMs + away)));
    return [...offsets]
      .map(offsetMs => localMs - offsetMs)
      .filter(instantMs => this.localMs(instantMs) === localMs)
      .sort((a, b) => a - b);
  }

  /** Of a time that is left out: the instant at which clocks go on. Otherwise the first at which they show it. */
  firstInstantOf(localMs: number): number {
    const [first] = this.instantsOf(localMs);
    if (first !== undefined) return first;
    const offsets = [-DAY_MS, DAY_MS].map(away => this.#offsetMs(localMs + away));
    let before = localMs - Math.max(...offsets);
    let after = localMs - Math.min(...offsets);
    while (after - before > 1) {
      const middle = Math.floor((before + after) / 2);
      if (this.localMs(middle) < localMs) before = middle;
      else after = middle;
    }
    return after;
  }

  #offsetMs(instantMs: number): number {
    return this.localMs(instantMs) - instantMs;
  }
}
