// The monitor itself: what it makes of input that is wrong.
import { expect } from 'vitest';
import { scenario } from '../scenario.ts';

scenario('MON-01', 'unknown commands and arguments get errors and leave the connection usable', async s => {
  expect((await s.refused('no-such-command')).class).toBe('CommandNotFound');
  await s.refused('query-version', { x: 1 });
  await s.ask('query-version');
});
