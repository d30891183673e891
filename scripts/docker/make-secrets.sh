#!/bin/sh
# Random secrets for docker-compose.yml, each in a file of its own in that folder (./secrets). Those that are there stay.
set -eu
folder=${1:-secrets}
# The files are read by the services' own user inside the containers; the folder keeps everybody else out.
mkdir -p "$folder"
chmod 700 "$folder"
for name in database-password fleet-secret admin-token; do
  [ -s "$folder/$name" ] && continue
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$folder/$name.new"
  chmod 444 "$folder/$name.new"
  mv "$folder/$name.new" "$folder/$name"
  echo "made $folder/$name"
done
