// Keeps the backups of each policy within its bandwidth: what its window allows is shared evenly by those that run,
// and changes as windows begin and end, and as backups do.
import { bandwidthAt, type Catalog, CatalogError, shareOf } from '@tidemark/catalog';

export class BandwidthKeeper {
  readonly #catalog: Catalog;
  readonly #now: () => number;

  constructor({ catalog, now }: { catalog: Catalog; now: () => number }) {
    this.#catalog = catalog;
    this.#now = now;
  }

  async keep(): Promise<void> {
    const running = await this.#catalog.admissions.listSpeeds();
    for (const [policyId, runs] of Map.groupBy(running, run => run.policyId)) {
      const policy = await this.#catalog.policies.find(policyId);
      if (policy === null) continue;
      const { bandwidth, schedule } = policy.definition;
      // What has no windows, and had none, is an operator's to hold back.
      const limited = runs.filter(({ wasLimited }) => bandwidth.length > 0 || wasLimited);
      const allowed = bandwidthAt(bandwidth, { timeZone: schedule.timeZone, now: new Date(this.#now()) });
      const wanted = shareOf(allowed, runs.length);
      for (const { runId, speedBytesPerSecond } of limited) {
        if ((speedBytesPerSecond ?? 0) !== wanted) await this.#tell(runId, wanted);
      }
    }
  }

  async #tell(runId: string, speedBytesPerSecond: number): Promise<void> {
    try {
      await this.#catalog.runs.requestSpeed(runId, speedBytesPerSecond);
    } catch (error) {
      if (!(error instanceof CatalogError) || error.code !== 'run-ended') throw error;
    }
  }
}
