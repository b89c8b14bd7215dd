# Images of the test cluster: single static programs on nothing, and how any image gets into containerd.
# The images of Floe itself are built in images/.
# shellcheck shell=bash

# Layers and images of buildah or podman lie in the cache too, not in the machine's own store.
export CONTAINERS_STORAGE_CONF="$FLOE_CACHE/containers/storage.conf"
export CONTAINERS_CONF="$FLOE_CACHE/containers/containers.conf"
containers_storage() {
    [ -f "$CONTAINERS_STORAGE_CONF" ] && [ -f "$CONTAINERS_CONF" ] && return
    mkdir -p "$FLOE_CACHE/containers"
    printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' \
        "$FLOE_CACHE/containers/graph" "$FLOE_CACHE/containers/run" >"$CONTAINERS_STORAGE_CONF"
    printf '[network]\nnetwork_config_dir = "%s"\n' "$FLOE_CACHE/containers/cni" >"$CONTAINERS_CONF"
}

image_present() { [ -n "$(ctr images ls -q "name==$1" 2>/dev/null)" ]; }

images_static() { # name, program
    containers_storage
    local context
    context="$(mktemp -d)"
    cp "$2" "$context/program"
    buildah build --quiet --isolation chroot --file "$here/static.Dockerfile" --tag "localhost/$1:test" "$context" >/dev/null
    rm -rf "$context"
    image_import "localhost/$1:test"
}

# image_import <image>: from buildah's store into containerd, unless it is there already.
image_import() {
    local archive digest
    digest="$(buildah inspect --type image --format '{{.FromImageID}}' "$1")"
    [ "$(cat "$state/images/$(tr '/:' '__' <<<"$1")" 2>/dev/null)" != "$digest" ] || ! image_present "$1" || return 0
    archive="$(mktemp -d "$state/import.XXXXXX")"
    buildah push --quiet "$1" "docker-archive:$archive/image.tar:$1"
    ctr images import "$archive/image.tar" >/dev/null
    rm -rf "$archive"
    mkdir -p "$state/images"
    echo "$digest" >"$state/images/$(tr '/:' '__' <<<"$1")"
}

images_load() { # the S3 server's program
    local wanted
    for wanted in "floe-coredns $(command -v coredns)" "floe-s3 $1"; do
        # shellcheck disable=SC2086
        image_present "localhost/${wanted%% *}:test" || images_static $wanted
    done
}
