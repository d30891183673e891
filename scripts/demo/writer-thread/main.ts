// The thread of the stamped writer: several lanes, each with one write in flight, never two to one block.

import { parentPort, workerData } from 'node:worker_threads';
import { NbdClient } from '@tidemark/nbd';
import { BLOCK_BYTES, writeStamp } from '../stamped-block.ts';
import type { WriterAnswer, WriterCommand, WriterTask } from '../stamped-writer.ts';
import { WriteHistory } from '../write-history.ts';

const task = workerData as WriterTask;
const history = WriteHistory.from(task.shared);
const blocks = task.region.length / BLOCK_BYTES;
const busy = new Uint8Array(blocks);
const answer = (message: WriterAnswer): void => parentPort!.postMessage(message);

let random = task.seed >>> 0 || 1;
let client: NbdClient | null = null;
let running = false;
let lanes: Promise<void> = Promise.resolve();

/** A block that no write is in flight to: far more blocks than lanes, so it is found at once. */
function chooseBlock(): number {
  for (;;) {
    random ^= random << 13;
    random ^= random >>> 17;
    random ^= random << 5;
    const block = (random >>> 0) % blocks;
    if (busy[block] === 0) return block;
  }
}

async function writeLane(disk: NbdClient): Promise<void> {
  const buffer = Buffer.alloc(BLOCK_BYTES);
  while (running) {
    const block = chooseBlock();
    busy[block] = 1;
    const sequence = history.issue(block);
    writeStamp(buffer, { sequence, block });
    await disk.write(task.region.offset + block * BLOCK_BYTES, buffer);
    history.acknowledge(sequence);
    busy[block] = 0;
    if (sequence === firstSequence) answer('started');
  }
}

let firstSequence = 0;

async function start(): Promise<void> {
  client ??= await NbdClient.connect({ uri: task.uri }, { requestsMax: task.inFlight });
  const disk = client;
  running = true;
  firstSequence = history.issued + 1;
  lanes = Promise.all(Array.from({ length: task.inFlight }, () => writeLane(disk))).then(() => {});
  lanes.catch(fail);
}

function fail(error: unknown): void {
  running = false;
  answer({ failed: error instanceof Error ? error.message : String(error) });
}

async function obey(command: WriterCommand): Promise<void> {
  if (command === 'start') return start();
  running = false;
  await lanes;
  answer('stopped');
}

parentPort!.on('message', (command: WriterCommand) => void obey(command).catch(fail));
