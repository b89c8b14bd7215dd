"""The cluster as a soak uses it: calls that outlast an API server that is down, and what is killed."""

from __future__ import annotations

import os
import pathlib
import random
import signal
import subprocess
import time
from typing import Any

from tests.e2e import kube

STATE = pathlib.Path(os.environ.get("FLOE_CACHE", pathlib.Path.home() / ".cache" / "floe")) / "cluster"
PATIENCE_SECONDS = 180


def steady(method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
    """One call, again until the API server answers. None if there is no such object."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return kube.request(method, path, body, kind)
        except AssertionError as error:
            # It was made or changed already, or the call is wrong.
            if ": 409 " in str(error) and method == "POST":
                return None
            if any(f": {code} " in str(error) for code in (400, 403, 422)) or time.monotonic() > deadline:
                raise
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(1)


def items(kind: str, namespace: str, selector: str = "") -> list[dict]:
    found = steady("GET", kube.path(kind, namespace) + (f"?labelSelector={selector}" if selector else ""))
    return found["items"] if found else []


def has_control_plane() -> bool:
    """Whether this is the test cluster of this machine, whose processes can be killed and started again."""
    return (STATE / "run" / "kube-apiserver.pid").exists() and str(STATE) in os.environ.get("KUBECONFIG", "")


def kill(what: str, namespace: str, luck: random.Random) -> str:
    """Kills one of this kind; tells which."""
    if what in ("api-server", "etcd"):
        name = {"api-server": "kube-apiserver", "etcd": "etcd"}[what]
        os.kill(int((STATE / "run" / f"{name}.pid").read_text()), signal.SIGKILL)
        time.sleep(luck.uniform(0.5, 3))
        up = kube.REPO / "tests" / "cluster" / "up"
        done = subprocess.run([up], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return name
    if what == "operator":
        found = items("pods", "floe-system", "app.kubernetes.io/component=operator")
        namespace = "floe-system"
    else:
        found = items("pods", namespace, f"floe.dev/role={what}")
    if not found:
        return f"no {what}"
    name = luck.choice(found)["metadata"]["name"]
    steady("DELETE", kube.path("pods", namespace, name) + "?gracePeriodSeconds=0")
    return name


def operator_memory() -> int | None:
    """Bytes that the operator's container holds, from the kubelet; None while there is none."""
    for node in steady("GET", "/api/v1/nodes")["items"]:
        try:
            found = kube.request("GET", f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary")
        except (AssertionError, OSError):
            continue
        for pod in (found or {}).get("pods", []):
            if pod["podRef"]["namespace"] == "floe-system" and pod["podRef"]["name"].startswith("floe-"):
                return pod.get("memory", {}).get("workingSetBytes")
    return None
