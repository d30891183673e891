// Preloaded into a process that another one started with an IPC channel: when the starter is gone, however it
// went, the process is asked to end as by `kill`.

if (process.channel) {
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  process.channel.unref(); // listening must not keep a finished program alive
}
