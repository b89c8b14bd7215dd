# The operator: its binary, the C library that it is linked to, certificates. No shell, no package manager.
#
# images/build prepares the build context.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS gathered
RUN dpkg -s ca-certificates >/dev/null 2>&1 || { apt-get update && apt-get install -y --no-install-recommends ca-certificates; }
COPY --chmod=0755 floe-operator /usr/local/bin/floe-operator
# Copy the libraries that the loader needs, each to its own path, and the files that any process needs.
RUN set -eu; mkdir -p /image/usr/local/bin /image/etc/ssl/certs /image/tmp; \
    cp /usr/local/bin/floe-operator /image/usr/local/bin/; \
    for library in $(ldd /usr/local/bin/floe-operator | grep -o '/[^ ]*'); do \
        mkdir -p "/image$(dirname "$library")"; cp -L "$library" "/image$library"; \
    done; \
    cp -L /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/; \
    printf 'root:x:0:0::/:/bin/false\nfloe:x:65532:65532::/tmp:/bin/false\n' >/image/etc/passwd; \
    printf 'root:x:0:\nfloe:x:65532:\n' >/image/etc/group; \
    printf 'hosts: files dns\n' >/image/etc/nsswitch.conf; \
    cp /etc/debian_version /image/etc/; cp -L /etc/os-release /image/etc/

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
ARG SBOM=unknown
LABEL org.opencontainers.image.title="floe-operator" \
      org.opencontainers.image.description="Floe's Kubernetes operator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/floe-dev/floe" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      dev.floe.sbom="${SBOM}"
COPY --from=gathered /image /
COPY sbom.json /usr/share/floe/sbom.json
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/floe-operator"]
