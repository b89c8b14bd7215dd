"""The cluster as the end-to-end tests use it: kubectl for what a user does, one proxy for what is asked again and again.

What belongs here: talking to the API, waiting with deadlines, telling what went on when a wait ends without success.
What does not: anything about queries (queries.py) or stores (store.py).
"""

from __future__ import annotations

import atexit
import functools
import json
import pathlib
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

REPO = pathlib.Path(__file__).parents[2]
QUERIES = "distributedqueries.floe.dev"
POLL_SECONDS = 0.25


def kubectl(*arguments: object, input: str | None = None, check: bool = True, timeout: float = 60) -> str:
    done = run(*arguments, input=input, timeout=timeout)
    assert not check or done.returncode == 0, f"kubectl {' '.join(map(str, arguments))}:\n{done.stderr}{done.stdout}"
    return done.stdout


def run(*arguments: object, input: str | None = None, timeout: float = 60) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["kubectl", *map(str, arguments)], input=input, capture_output=True, text=True, timeout=timeout
    )


def apply(*objects: dict, namespace: str | None = None) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    kubectl("apply", *(["-n", namespace] if namespace else []), "-f", "-", input=text)


@functools.cache
def proxy() -> str:
    """The address of a `kubectl proxy`, which lives as long as this process."""
    process = subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    line = process.stdout.readline()
    return f"http://127.0.0.1:{re.search(r':([0-9]+)', line)[1]}"


def request(method: str, path: str, body: Any = None, kind: str = "application/json", timeout: float = 20) -> Any:
    """One call of the API; None when there is no such object."""
    data = None if body is None else json.dumps(body).encode()
    call = urllib.request.Request(proxy() + path, data, {"Content-Type": kind}, method=method)
    for attempt in range(4):
        try:
            with urllib.request.urlopen(call, timeout=timeout) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            if error.code not in (429, 500, 503) or attempt == 3:
                raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()[:2000]}") from error
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            if attempt == 3:
                raise
        time.sleep(0.5 * (attempt + 1))
    return None


PATHS = {
    "pods": "/api/v1",
    "secrets": "/api/v1",
    "services": "/api/v1",
    "events": "/api/v1",
    "configmaps": "/api/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "distributedqueries": "/apis/floe.dev/v1alpha1",
    "computecontexts": "/apis/floe.dev/v1alpha1",
    "scheduledqueries": "/apis/floe.dev/v1alpha1",
    "leases": "/apis/coordination.k8s.io/v1",
}


def path(kind: str, namespace: str, name: str | None = None) -> str:
    return f"{PATHS[kind]}/namespaces/{namespace}/{kind}" + (f"/{name}" if name else "")


def get(kind: str, namespace: str, name: str) -> dict | None:
    return request("GET", path(kind, namespace, name))


def items(kind: str, namespace: str, selector: str = "") -> list[dict]:
    found = request("GET", path(kind, namespace) + (f"?labelSelector={selector}" if selector else ""))
    return found["items"] if found else []


def create(kind: str, namespace: str, body: dict) -> dict:
    """Makes an object as kubectl would, unknown fields refused; much cheaper than a start of kubectl."""
    return request("POST", path(kind, namespace) + "?fieldValidation=Strict", body)


def patch(kind: str, namespace: str, name: str, change: dict) -> None:
    assert request("PATCH", path(kind, namespace, name), change, "application/merge-patch+json") is not None


def wait(what: str, limit_seconds: float, ask: Callable[[], Any], describe: Callable[[], str] | None = None) -> Any:
    """Asks until the answer is true and gives it; past the limit it fails and tells what `describe` has to say."""
    deadline = time.monotonic() + limit_seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            more = describe() if describe else ""
            raise AssertionError(f"not within {limit_seconds:g} s: {what}\n{more}")
        time.sleep(POLL_SECONDS)


def story(namespace: str) -> str:
    """All that helps to understand what went on in a namespace, as text."""
    parts = []

    def add(title: str, *arguments: str) -> None:
        try:
            done = run(*arguments, timeout=30)
            parts.append(f"--- {title}\n{done.stdout[-12000:]}{done.stderr[-2000:]}")
        except subprocess.TimeoutExpired:
            parts.append(f"--- {title}: no answer")

    add("queries", "describe", QUERIES, "-n", namespace)
    add("contexts", "describe", "computecontexts.floe.dev", "-n", namespace)
    add("schedules", "describe", "scheduledqueries.floe.dev", "-n", namespace)
    add("events", "get", "events", "-n", namespace, "--sort-by=.metadata.creationTimestamp")
    add("pods", "get", "pods", "-n", namespace, "-o", "wide")
    for pod in items("pods", namespace):
        name = pod["metadata"]["name"]
        statuses = json.dumps(pod.get("status", {}).get("containerStatuses", []), indent=1)
        parts.append(f"--- status of {name}\n{statuses[-3000:]}")
        add(f"log of {name}", "logs", "-n", namespace, name, "--tail=60")
    for operator in items("pods", "floe-system", "app.kubernetes.io/component=operator"):
        name = operator["metadata"]["name"]
        add(f"log of the operator {name}", "logs", "-n", "floe-system", name, "--tail=60")
    return "\n".join(parts)
