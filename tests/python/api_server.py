"""As much of an API server as the client asks: custom objects in a dictionary, which tests change under it."""

from __future__ import annotations

import contextlib
import copy
import http.server
import json
import pathlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit


def kubeconfig(path: pathlib.Path, server: str) -> pathlib.Path:
    """A kubeconfig with one cluster, and the namespace `analytics`."""
    cluster = {"name": "c", "cluster": {"server": server}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "analytics"}}
    told = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster], "contexts": [context]}
    path.write_text(json.dumps({**told, "users": [{"name": "u", "user": {}}]}))
    return path


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class ApiServer:
    """Objects by plural and name. `requests` has the method and path of all that was asked; so many as `unavailable` says are
    answered by 503 first."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.unavailable = 0
        owner = self

        class Handler(_Handler):
            api = owner

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def put(self, plural: str, name: str, **fields: Any) -> None:
        """Makes an object, or puts fields of one."""
        made = copy.deepcopy(self.objects.get((plural, name), {"metadata": {"name": name, "uid": f"uid-{name}"}}))
        self.objects[plural, name] = made | fields

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self.api.unavailable > 0:
            self.api.unavailable -= 1
            self._refuse(503, "etcd has no leader")
            return False
        return True

    def _answer(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, {"kind": "Status", "status": "Failure", "code": status, "message": message})

    def _asked(self) -> tuple[str, str, dict[str, str], Any]:
        """Plural, name, parameters and body."""
        url = urlsplit(self.path)
        self.api.requests.append((self.command, url.path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = url.path.strip("/").split("/")
        parts = parts[parts.index("namespaces") + 2 :] if "namespaces" in parts else parts
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        return parts[0], parts[1] if len(parts) > 1 else "", query, json.loads(body) if body else None

    def do_GET(self) -> None:
        plural, name, query, _ = self._asked()
        if plural == "version":
            names = ("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform")
            self._answer(200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0", **dict.fromkeys(names, "x")})
        elif name:
            found = self.api.objects.get((plural, name))
            self._answer(200, found) if found else self._refuse(404, f'{plural} "{name}" not found')
        elif query.get("watch"):
            self._watch(plural, query["fieldSelector"].removeprefix("metadata.name="), float(query["timeoutSeconds"]))
        else:
            items = [one for (kind, _), one in self.api.objects.items() if kind == plural]
            self._answer(200, {"kind": "List", "metadata": {}, "items": items})

    def _watch(self, plural: str, name: str, seconds: float) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        told: Any = None
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            now = self.api.objects.get((plural, name))
            if now is not None and now != told:
                told = copy.deepcopy(now)
                event = json.dumps({"type": "MODIFIED", "object": told}).encode() + b"\n"
                self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            time.sleep(0.01)
        self.wfile.write(b"0\r\n\r\n")

    def do_POST(self) -> None:
        plural, _, _, body = self._asked()
        name = body["metadata"]["name"]
        if (plural, name) in self.api.objects:
            self._refuse(409, f'{plural} "{name}" already exists')
            return
        body["metadata"]["uid"] = f"uid-{name}"
        self.api.objects[plural, name] = body
        self._answer(201, body)

    def do_PATCH(self) -> None:
        plural, name, _, body = self._asked()
        self.api.objects[plural, name]["spec"] |= body["spec"]
        self._answer(200, self.api.objects[plural, name])

    def do_DELETE(self) -> None:
        plural, name, _, _ = self._asked()
        found = self.api.objects.pop((plural, name), None)
        self._answer(200, {"kind": "Status", "status": "Success"}) if found else self._refuse(404, f"{name} not found")
