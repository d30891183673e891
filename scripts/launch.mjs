// The first lines of every command that the project installs: whichever `node` the shell found, the program
// runs on one that is new enough.

import module from 'node:module';
import { fileURLToPath } from 'node:url';
import { compiledFolder, handOver, nodeEnvironment } from './process/node-process.mjs';
import { findNode, NODE_MAJOR_MIN, ownNodeIsEnough } from './setup/find-node.mjs';

/**
 * Runs the program with this process's arguments. In this very process when its Node.js is new enough;
 * otherwise in another that has the same streams, gets every signal and gives its exit code.
 * @param {URL} mainUrl the program, a TypeScript file
 * @returns {Promise<void>}
 */
export async function launch(mainUrl) {
  if (ownNodeIsEnough()) {
    Object.assign(process.env, nodeEnvironment(process.env));
    // For this process the variable comes too late.
    module.enableCompileCache(compiledFolder);
    hideTypeStrippingWarning();
    await import(mainUrl.href);
    return;
  }
  const node = findNode();
  if (node === null) {
    console.error(
      `Tidemark needs Node.js ${NODE_MAJOR_MIN} or newer; this is ${process.version}, and the set-up has ` +
        'not fetched one yet. Run `npm run setup` in the project folder, then try again.',
    );
    process.exit(1);
  }
  await handOver(node, [fileURLToPath(mainUrl), ...process.argv.slice(2)]);
}

/** Node.js 24 before 24.12 calls running TypeScript experimental; users can do nothing about it. */
function hideTypeStrippingWarning() {
  const emit = process.emitWarning;
  process.emitWarning = (warning, ...rest) => {
    if (!String(warning).startsWith('Type Stripping')) emit.call(process, warning, ...rest);
  };
}
