"""The Python package on a cluster with every accepted version of Polars, each in an environment of its own (tests/wheels makes
them), all on one warm context."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

from tests.e2e import store
from tests.e2e.contexts import LARGER
from tests.python.test_versions import VERSIONS

HERE = pathlib.Path(__file__).parent
WHEELS = HERE.parent / "wheels"
#: Of the runner's image, which calls the functions of its own version.
IMAGE = dict(line.split("==") for line in (HERE.parents[1] / "images" / "requirements.txt").read_text().split() if "==" in line)["polars"]
CHECKS = ["dtypes", "engine", "sink", "error", "function", "cancel"]


def test_every_version_of_polars_on_one_context(contexts, queries):
    cache = pathlib.Path(os.environ.get("FLOE_CACHE", pathlib.Path.home() / ".cache" / "floe"))
    subprocess.run([WHEELS, *VERSIONS], check=True, timeout=600)
    contexts.create(minWorkers=2, compute=LARGER)
    contexts.ready(2)
    clients = {}
    for version in VERSIONS:
        python = cache / "wheels" / version / "bin" / "python"
        told = {
            "version": version,
            "context": {"name": "warm", "namespace": queries.namespace},
            "lines": f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet",
            "sink": f"s3://{store.BUCKET}/{queries.prefix}/{version.replace('.', '-')}/",
            "options": store.options(),
            # Between the same versions of Polars and of Python.
            "functions": version == IMAGE and sys.version_info[:2] == (3, 11),
        }
        command = [python, HERE / "client_of_version.py", json.dumps(told)]
        clients[version] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        ended = {version: client.communicate(timeout=300)[0] for version, client in clients.items()}
    finally:
        for client in clients.values():
            client.kill()
    for version, client in clients.items():
        assert client.returncode == 0, f"Polars {version}:\n{ended[version][-6000:]}"
        assert [line.split(":")[0] for line in ended[version].splitlines() if line.endswith(" s")] == CHECKS, ended[version]
        print(version, ended[version].replace("\n", ", "))
