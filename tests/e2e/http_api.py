"""The HTTP API as its users reach it: curl, over a port-forward, with a token of a service account."""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import socket
import subprocess
import threading
import time
from typing import Any

from tests.e2e import kube


@functools.cache
def forward() -> str:
    """The address of the API, by a port-forward that lives as long as this process and comes back when it breaks off."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ended = threading.Event()
    running: list[subprocess.Popen] = []

    def keep() -> None:
        while not ended.is_set():
            command = ["kubectl", "port-forward", "-n", "floe-system", "service/floe-http-api", f"{port}:80"]
            running[:] = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
            running[0].wait()
            time.sleep(0.2)

    def end() -> None:
        ended.set()
        for process in running:
            process.kill()

    threading.Thread(target=keep, daemon=True).start()
    atexit.register(end)
    address = f"http://127.0.0.1:{port}"
    kube.wait("the HTTP API answers", 30, lambda: curl(f"{address}/healthz").status == 200)
    return address


def straight() -> str:
    """The address of the API in the cluster's own network, if this machine is in it: many requests, of which some are made to
    be cut off, would each end kubectl's port-forward."""
    service = kube.get("services", "floe-system", "floe-http-api")["spec"]
    address = f"http://{service['clusterIP']}:{service['ports'][0]['port']}"
    return address if curl(f"{address}/healthz", timeout=5).status == 200 else forward()


class Answer:
    """What curl got."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes):
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int, kind: str) -> dict:
        """The problem that it must be."""
        assert self.status == status, (self.status, self.body[:2000])
        assert self.headers["content-type"] == "application/problem+json"
        told = self.json()
        assert told["type"] == f"urn:floe:problem:{kind}" and told["status"] == status and told["title"], told
        return told

    def good(self, status: int = 200) -> Answer:
        assert self.status == status, (self.status, self.body[:2000])
        return self


def curl(*arguments: str, body: bytes | None = None, timeout: float = 60) -> Answer:
    done = subprocess.run(
        ["curl", "-sS", "-i", "--max-time", str(timeout), *arguments, *(["--data-binary", "@-"] if body is not None else [])],
        input=body, capture_output=True, timeout=timeout + 10,
    )  # fmt: skip
    if done.returncode != 0 or not done.stdout:
        return Answer(0, {}, done.stderr)
    head, rest = done.stdout, b""
    # An answer of 100 goes before that of a large body.
    while True:
        head, _, rest = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 100"):
            break
        head = rest
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, rest)


class Caller:
    """A service account that may do what its roles allow."""

    def __init__(self, namespace: str, name: str, *roles: str):
        self.namespace, self.name = namespace, name
        kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}, namespace=namespace)
        for role in roles:
            self.bind(role)
        self.token = self.new_token()

    def new_token(self, *options: str) -> str:
        return kube.kubectl("create", "token", self.name, "-n", self.namespace, *options).strip()

    def bind(self, role: str) -> None:
        kube.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": f"{self.name}-{role}"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": self.namespace}],
            },
            namespace=self.namespace,
        )  # fmt: skip

    def path(self, rest: str = "", namespace: str | None = None, kind: str = "queries") -> str:
        return f"{forward()}/api/v1/namespaces/{namespace or self.namespace}/{kind}{rest}"

    def ask(self, method: str, rest: str = "", *options: str, token: str | None = None, **more: Any) -> Answer:
        token = self.token if token is None else token
        who = ["-H", f"Authorization: Bearer {token}"] if token else []
        path = self.path(rest, more.pop("namespace", None), more.pop("kind", "queries"))
        return curl("-X", method, *who, *options, path, **more)

    def submit(self, body: Any, *options: str, **more: Any) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", "", "-H", "Content-Type: application/json", *options, body=data, **more)

    def events(self, name: str, timeout: float = 180) -> list[tuple[str, dict]]:
        """All events of a query, to the end of the stream."""
        text = self.ask("GET", f"/{name}/progress", "-N", timeout=timeout).good().body.decode()
        told = []
        for event in text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in event.splitlines() if ": " in line)
            if "event" in fields:
                told.append((fields["event"], json.loads(fields["data"])))
        return told

    def ended(self, name: str, timeout: float = 180) -> dict:
        """Its status when it has ended."""
        told = self.events(name, timeout)
        assert told and told[-1][0] == "end", told
        return told[-1][1]["status"]


def page(document: str) -> list[tuple[str, str]]:
    """The commands of a page's console blocks, each with what is printed after it."""
    found: list[list[str]] = []
    for block in re.findall(r"```console\n(.*?)```", document, re.DOTALL):
        goes_on, until = False, None
        for line in block.splitlines():
            if line.startswith("$ ") and until is None and not goes_on:
                found.append([line[2:], ""])
            elif goes_on or until is not None:
                found[-1][0] += "\n" + line
            else:
                found[-1][1] += line + "\n"
                continue
            if until is not None and line == until:
                until = None
            elif until is None and (here := re.search(r"<<'(\w+)'", line)):
                until = here[1]
            goes_on = line.endswith("\\")
    return [(command, printed) for command, printed in found]


def fits(printed: str, seen: str) -> bool:
    """Whether what was seen is what a page prints, where … stands for anything."""
    pattern = ".*".join(re.escape(part) for part in printed.strip().split("…"))
    return re.fullmatch(pattern, seen.strip(), re.DOTALL) is not None


def run(commands: list[tuple[str, str]], folder, env: dict[str, str], timeout: float = 300) -> None:
    """Runs a page's commands in one shell and holds what each prints against the page."""
    script = ["trap 'kill $(jobs -p) 2>/dev/null' EXIT", f"cd {folder}"]
    for number, (command, _) in enumerate(commands):
        script.append(f"{{ {command}\n}} >out.{number} 2>&1 || {{ echo failed with $? >>out.{number}; exit 1; }}")
    shell = subprocess.run(["bash", "-c", "\n".join(script)], env={**os.environ, **env}, timeout=timeout)
    for number, (command, printed) in enumerate(commands):
        out = folder / f"out.{number}"
        assert out.exists(), f"not run: {command}"
        seen = out.read_text(errors="replace")
        assert fits(printed, seen), f"$ {command}\n{seen}\n--- and not\n{printed}"
    assert shell.returncode == 0, shell
