#!/bin/sh
# What the official image does at its start, as far as it is used here: a cluster for a new data folder, with that
# user, password and database; then the server, as the user postgres and as the container's first process.
set -eu

[ "$1" = postgres ] || exec "$@"

setting() {
  eval "value=\${$1:-} file=\${$1_FILE:-}"
  if [ -n "$file" ]; then cat "$file"; else printf '%s' "$value"; fi
}

# By its path: this shell would run its own.
as_postgres() {
  /usr/bin/setpriv --reuid=999 --regid=999 --clear-groups "$@"
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password=$(setting POSTGRES_PASSWORD)
  user=$(setting POSTGRES_USER)
  database=$(setting POSTGRES_DB)
  if [ -z "$password" ]; then
    echo 'POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE is needed for a new data folder' >&2
    exit 1
  fi
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  chown -R 999:999 "$PGDATA"
  (umask 077 && printf '%s\n' "$password" >/run/password)
  chown 999:999 /run/password
  as_postgres initdb -D "$PGDATA" --username="${user:-postgres}" --pwfile=/run/password \
    --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C \
    --locale-provider=builtin --builtin-locale=C.UTF-8 --no-instructions ${POSTGRES_INITDB_ARGS:-}
  rm /run/password
  name=${database:-${user:-postgres}}
  [ "$name" = postgres ] ||
    printf 'CREATE DATABASE "%s"\n' "$name" | as_postgres postgres --single -D "$PGDATA" postgres
  printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  printf "listen_addresses = '*'\nunix_socket_directories = '/var/run/postgresql'\n" >>"$PGDATA/postgresql.conf"
fi
mkdir -p /var/run/postgresql
chown 999:999 /var/run/postgresql
exec /usr/bin/setpriv --reuid=999 --regid=999 --clear-groups "$@"
