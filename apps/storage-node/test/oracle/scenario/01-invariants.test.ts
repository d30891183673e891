// What holds in every scenario, over histories that nobody chose.
import { generateHistory } from '@tidemark/engine/testing';
import { playHistory } from '../history/play.ts';
import { scenario } from '../scenario.ts';

scenario('INV-02', 'no dirt is lost, whatever guests, operators and jobs do', async s => {
  for (const seed of [1, 2, 3, 4, 5, 6]) await playHistory(s, generateHistory(seed), `disk${seed}`);
});
