#!/bin/sh
# Runs a real S3 server (versitygw over a directory) on loopback until it is stopped.
#
#   tests/s3-server.sh build              builds the server into the cache directory and prints its path
#   tests/s3-server.sh run DIR [PORT]     serves DIR (made if missing) on 127.0.0.1:PORT (7480)
#
# Each directory in DIR is a bucket. Access key floe, secret key floe-secret, region us-east-1.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${FLOE_CACHE:-$HOME/.cache/floe}
server=$cache/bin/versitygw-v1.8.0

build() {
    [ -x "$server" ] && return
    mkdir -p "$cache/bin"
    exec 9>"$server.lock"
    flock 9
    [ -x "$server" ] && return
    temporary=$server.$$
    (cd "$here/tools/versitygw" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$temporary" \
        github.com/versity/versitygw/cmd/versitygw) >&2
    mv "$temporary" "$server"
}

case ${1:-} in
build)
    build
    echo "$server"
    ;;
run)
    dir=${2:?"s3-server.sh run DIR [PORT]"}
    port=${3:-7480}
    build
    mkdir -p "$dir/buckets" "$dir/meta"
    # Metadata in files beside the buckets, since not every file system has extended attributes.
    exec "$server" --access floe --secret floe-secret --region us-east-1 --port "127.0.0.1:$port" --quiet \
        posix --sidecar "$dir/meta" "$dir/buckets"
    ;;
*)
    sed -n '2,8p' "$0" >&2
    exit 2
    ;;
esac
