#!/usr/bin/env bash
# A PostgreSQL of its own for tests: on loopback, over TCP and TLS, as a user without rights, in one directory.
#
#   tests/postgres.sh bin          installs the Debian package if there is none, prints the directory of its programs
#   tests/postgres.sh up <dir>     makes and starts a server whose files are below <dir>, prints its port
#   tests/postgres.sh down <dir>   stops it; <dir> is the caller's to remove
#
# The superuser is `floe` with the password `floe-test`; <dir>/ca.crt signed the server's certificate, which is for
# localhost and 127.0.0.1.
set -euo pipefail

refuse() {
    echo "postgres: $*" >&2
    exit 3
}

programs() {
    if [ -n "${FLOE_POSTGRES_BIN:-}" ]; then
        echo "$FLOE_POSTGRES_BIN"
        return
    fi
    local newest
    newest="$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)"
    [ -n "$newest" ] && [ -x "$newest/initdb" ] && echo "$newest"
}

install() {
    command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] ||
        refuse "not installed: install PostgreSQL 14 or newer, or name its programs' directory in FLOE_POSTGRES_BIN"
    # Neither a server nor a cluster of the package's own: only the programs are wanted.
    local policy=/usr/sbin/policy-rc.d own_policy='' log
    log="$(mktemp)"
    [ -e "$policy" ] || { own_policy=yes && printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"; }
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        -o Dpkg::Options::=--force-confold postgresql openssl; } >"$log" 2>&1 ||
        { [ -z "$own_policy" ] || rm -f "$policy"; refuse "apt-get failed: $(tail -n 5 "$log")"; }
    [ -z "$own_policy" ] || rm -f "$policy"
    rm -f "$log"
}

# As whom the server runs: it refuses to be root.
unprivileged() {
    if [ "$(id -u)" = 0 ]; then setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; else "$@"; fi
}

certificates() { # directory
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=floe-test-ca -keyout "$1/ca.key" -out "$1/ca.crt"
    openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout "$1/server.key" -out "$1/server.csr"
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >"$1/server.ext"
    openssl x509 -req -days 30 -in "$1/server.csr" -CA "$1/ca.crt" -CAkey "$1/ca.key" -CAcreateserial \
        -extfile "$1/server.ext" -out "$1/server.crt"
    chmod 600 "$1/server.key"
}

up() {
    local dir bin port data
    dir="$(realpath "$1")"
    bin="$(programs)" || { install && bin="$(programs)"; } || refuse "was installed, but is not in /usr/lib/postgresql"
    data="$dir/data"
    mkdir -p "$data"
    certificates "$dir" >"$dir/openssl.log" 2>&1 || refuse "openssl failed, see $dir/openssl.log"
    echo floe-test >"$dir/password"
    if [ "$(id -u)" = 0 ]; then
        # Whoever runs the server has to get there.
        chown -R nobody:nogroup "$dir"
        chmod 755 "$dir"
    fi
    unprivileged "$bin/initdb" -D "$data" -U floe --pwfile="$dir/password" -A scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 --no-sync >"$dir/initdb.log" 2>&1 || refuse "initdb failed, see $dir/initdb.log"
    port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
    unprivileged "$bin/postgres" -D "$data" -p "$port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories="$dir" -c fsync=off -c full_page_writes=off -c temp_file_limit=2GB -c max_connections=60 -c shared_buffers=64MB \
        -c ssl=on -c ssl_cert_file="$dir/server.crt" -c ssl_key_file="$dir/server.key" \
        </dev/null >"$dir/server.log" 2>&1 9>&- &
    for _ in $(seq 150); do
        "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" && { echo "$port"; return; }
        sleep 0.2
    done
    refuse "did not start within 30 s, see $dir/server.log"
}

down() {
    local pid
    pid="$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)" || return 0
    kill -INT "$pid" 2>/dev/null || return 0
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -QUIT "$pid" 2>/dev/null || true
}

case "${1:-}" in
    bin) programs || { install && programs; } ;;
    up) up "$2" ;;
    down) down "$2" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
