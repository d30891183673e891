// What `--help` prints.

export const HELP = `Usage: tidemark-storage-daemon [options]
Tidemark storage daemon: block nodes, jobs and NBD exports driven over QMP

  -h, --help             display this help and exit
  -V, --version          output version information and exit

  --blockdev [driver=]<driver>[,node-name=<N>][,discard=ignore|unmap]
             [,cache.direct=on|off][,cache.no-flush=on|off]
             [,read-only=on|off][,auto-read-only=on|off]
             [,force-share=on|off][,detect-zeroes=on|off|unmap]
             [,driver specific parameters...]
                         configure a block node; also as JSON

  --chardev socket,id=<id>,path=<path>,server=on[,wait=off]
  --chardev socket,id=<id>,fd=<number>,server=on[,wait=off]
                         listen for the clients of a monitor

  --daemonize            run in the background; the exit code tells
                         whether the start went well

  --export [type=]nbd,id=<id>,node-name=<node-name>[,name=<export-name>]
           [,writable=on|off][,description=<text>]
           [,bitmaps.0=<name>...][,allocation-depth=on|off]
                         export the block node over NBD
                         (requires --nbd-server)

  --monitor [chardev=]name[,mode=control][,pretty[=on|off]]
                         configure a QMP monitor

  --nbd-server addr.type=inet,addr.host=<host>,addr.port=<port>
               [,max-connections=<n>]
  --nbd-server addr.type=unix,addr.path=<path>[,max-connections=<n>]
                         start an NBD server for exporting block nodes

  --object throttle-group,id=<id>[,limits.<limit>=<value>...]
                         create a throttle group

  --pidfile <path>       write the process id to a file after startup

Options take effect in the order in which they are given.
`;
