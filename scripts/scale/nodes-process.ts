// `node nodes-process.ts COUNT`: so many storage nodes that speak the whole contract over gRPC and hold no bytes, in
// one process. Writes their addresses as one line of JSON, and ends with its standard input.
import { ScriptedStorageNode } from '../../apps/worker/test/scripted-storage-node.ts';

const exports = new Set<string>();
const nodes = Array.from({ length: Number(process.argv[2]) }, (_, index) => {
  const node = new ScriptedStorageNode(`node-${String(index + 1).padStart(3, '0')}`, exports);
  // Room is not what is measured.
  node.availableBytes = 1024 ** 4;
  return node;
});
await Promise.all(nodes.map(node => node.start()));
console.log(JSON.stringify(nodes.map(({ name, address }) => ({ name, controlAddress: address }))));
process.stdin.resume().on('end', () => process.exit(0));
