#!/bin/sh
# Runs the PostgreSQL server of the compose file. The first start creates the database and renames it into place.
set -eu
if [ ! -d "$PGDATA" ]; then
    rm -rf "$PGDATA.new"
    printf '%s' "$STORE_PASSWORD" > /tmp/password
    initdb --pgdata "$PGDATA.new" --username "$PGUSER" --pwfile /tmp/password --encoding UTF8 --locale C.UTF-8 \
        --auth-local trust --auth-host scram-sha-256
    rm /tmp/password
    echo 'host all all all scram-sha-256' >> "$PGDATA.new/pg_hba.conf"
    echo "CREATE DATABASE $PGUSER" | postgres --single -D "$PGDATA.new" -j postgres
    mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp
