# Coordinator and workers: the runner, and the Python that plan scripts run in, with Polars.
#
# images/build prepares the build context. What changes least comes first, so that a new runner is one new layer.
ARG BASE=debian:bookworm-slim

FROM ${BASE}
RUN dpkg -s ca-certificates python3 tzdata >/dev/null 2>&1 || { apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates python3 tzdata && rm -rf /var/lib/apt/lists/*; }
# Scripts run in Python's isolated mode, which ignores PYTHONPATH: a .pth file adds the packages. Compile them to byte
# code here, because the file system is read-only at run time.
COPY python/ /opt/floe/python/
RUN python3 -c 'import site; open(site.getsitepackages()[0] + "/floe.pth", "w").write("/opt/floe/python\n")' && \
    python3 -m compileall -q --invalidation-mode unchecked-hash /opt/floe/python /usr/lib/python3* >/dev/null && \
    python3 -I -c 'import polars; print(polars.__version__)' && \
    echo 'floe:x:65532:65532::/tmp:/bin/false' >>/etc/passwd && echo 'floe:x:65532:' >>/etc/group
ARG VERSION=dev
ARG REVISION=unknown
ARG SBOM=unknown
LABEL org.opencontainers.image.title="floe-runner" \
      org.opencontainers.image.description="Floe's coordinator and workers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/floe-dev/floe" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      dev.floe.sbom="${SBOM}"
COPY --chmod=0755 floe-runner /usr/local/bin/floe-runner
COPY sbom.json /usr/share/floe/sbom.json
ENV FLOE_PYTHON=/usr/bin/python3 HOME=/tmp
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/floe-runner"]
