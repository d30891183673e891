// Named moments between two durable steps of a service, at which a test has it die as if by `kill -9`. Without
// the setting there are none: whoever passes one has an undefined hook and pays nothing.
//
// In the folder that TIDEMARK_KILL_POINTS names, for each service:
//   NAME.passed   the points that it passed, one a line; `killed POINT` where it died
//   NAME.armed    `POINT COUNT`, one a line: die when one of them is passed for the COUNTth time from now on
import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

/** To be called with the point's name, between what is durable already and what is not yet. */
export type PassPoint = (name: string) => void;

export const killPointsSetting = z.string().min(1, 'must not be empty').optional();

/** Undefined without a folder. `die` has to end the process at once. */
export function killPoints(
  folder: string | undefined,
  service: string,
  die: () => void = dieNow,
): PassPoint | undefined {
  if (folder === undefined) return undefined;
  const passedFile = join(folder, `${service}.passed`);
  const armedFile = join(folder, `${service}.armed`);
  let armedWith = '';
  let left = new Map<string, number>();
  return name => {
    appendFileSync(passedFile, `${name}\n`);
    const orders = readOrders(armedFile);
    if (orders !== armedWith) left = parseOrders(orders);
    armedWith = orders;
    const count = left.get(name);
    if (count === undefined) return;
    left.set(name, count - 1);
    if (count > 1) return;
    rmSync(armedFile, { force: true });
    appendFileSync(passedFile, `killed ${name}\n`);
    die();
  };
}

function readOrders(file: string): string {
  try {
    return readFileSync(file, 'utf8').trimEnd();
  } catch {
    return '';
  }
}

function parseOrders(orders: string): Map<string, number> {
  return new Map(
    orders.split('\n').map(line => {
      const space = line.lastIndexOf(' ');
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }),
  );
}

/** No signal handler, no `finally`, no open file's last write: nothing of this process runs any more. */
function dieNow(): void {
  process.kill(process.pid, 'SIGKILL');
  // The signal may find another thread first.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
