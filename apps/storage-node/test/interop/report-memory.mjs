// Loaded into a process whose memory is measured: tells at the end how much it had at most.
process.on('exit', () => {
  process.stderr.write(`resident ${process.resourceUsage().maxRSS} KiB\n`);
});
