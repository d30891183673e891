// Named moments between two durable steps of a service, at which a test has it die as if by `kill -9`. Without
// the setting there are none: whoever passes one has an undefined hook and pays nothing.
//
// In the folder that TIDEMARK_KILL_POINTS names, for each service:
//   NAME.passed   the points that it passed, one a line; `killed POINT` where it died
//   NAME.armed    `POINT COUNT`: die when the point is passed for the COUNTth time from now on
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
  let left = 0;
  return name => {
    appendFileSync(passedFile, `${name}\n`);
    const order = readOrder(armedFile);
    if (order !== armedWith) left = Number(order.slice(order.lastIndexOf(' ') + 1));
    armedWith = order;
    if (order.slice(0, order.lastIndexOf(' ')) !== name) return;
    left -= 1;
    if (left > 0) return;
    rmSync(armedFile, { force: true });
    appendFileSync(passedFile, `killed ${name}\n`);
    die();
  };
}

function readOrder(file: string): string {
  try {
    return readFileSync(file, 'utf8').trimEnd();
  } catch {
    return '';
  }
}

/** No signal handler, no `finally`, no open file's last write: nothing of this process runs any more. */
function dieNow(): void {
  process.kill(process.pid, 'SIGKILL');
  // The signal may find another thread first.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
