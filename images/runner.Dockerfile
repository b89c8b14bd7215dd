# Coordinator and workers: the runner, and the Python that plan scripts run in, with Polars.
#
# The build context is made by images/build. What changes least comes first, so that a new runner is one new layer.
ARG BASE=debian:bookworm-slim

FROM ${BASE}
RUN dpkg -s ca-certificates python3 tzdata >/dev/null 2>&1 || { apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates python3 tzdata && rm -rf /var/lib/apt/lists/*; }
# Scripts run in Python's isolated mode, which reads no PYTHONPATH: a .pth file names the packages. Their byte code is
# made here, since the file system is read-only where they run.
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
