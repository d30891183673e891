// `npm start`, `npm run demo`, `npm test`, …: sets up whatever is still missing, then runs the task. Runs on
// whatever Node.js the machine has, before any dependency is there.

const major = Number(process.versions.node.split('.')[0]);
const fault =
  major < 20
    ? `Tidemark needs Node.js 20 or newer to set itself up; this is ${process.version}. Install a newer one.`
    : process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)
      ? `Tidemark runs on Linux on x64 and arm64; this is ${process.platform} on ${process.arch}. ` +
        'Use a Linux machine, virtual machine or container.'
      : null;

if (fault) {
  console.error(fault);
  process.exitCode = 1;
} else {
  import('./setup/main.mjs').then(({ main }) => main(process.argv.slice(2)));
}
