"""Warm processes for the benchmarks: Floe's coordinator with its workers, and single-process Polars in Python.

Each engine answers `run(plan) -> Answer` for the path of a serialized plan. Starting the processes is timed apart.
"""

from __future__ import annotations

import base64
import dataclasses
import http.client
import io
import json
import os
import pathlib
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.parse
import uuid

import polars as pl

from tests import support


def size_of(quantity: str) -> int:
    for suffix, factor in {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}.items():
        if quantity.endswith(suffix):
            return int(float(quantity.removesuffix(suffix)) * factor)
    return int(quantity)


@dataclasses.dataclass
class Answer:
    seconds: float
    rows: int
    stages: int = 1
    bytes_shuffled: int = 0
    single_worker: tuple[str, ...] = ()
    summary: dict | None = None


class Process:
    """A child process whose first line on stdout is JSON and says that it is ready; it ends with its stdin."""

    def __init__(self, name: str, command: list[str], env: dict[str, str]):
        self.name = name
        begin = time.perf_counter()
        self.log = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"floe-bench-{name.replace(' ', '-')}.{os.getpid()}.log"
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            env=os.environ | env,
            text=True,
            bufsize=1,
        )
        self.hello = self.read()
        self.start_seconds = time.perf_counter() - begin

    def read(self) -> dict:
        line = self.child.stdout.readline()
        if not line:
            code = self.child.wait()
            raise RuntimeError(f"{self.name} ended with {code}: {self.log.read_text()[-4000:]}")
        return json.loads(line)

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.stdin.close()
            try:
                self.child.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.log.unlink(missing_ok=True)


class Wheel(Process):
    """Single-process Polars, Python wheel."""

    def __init__(self, threads: int, engine: str = "streaming"):
        super().__init__("polars wheel", [sys.executable, "-m", "bench.wheel", engine], {"POLARS_MAX_THREADS": str(threads)})
        self.label = f"Polars {self.hello['version']} (Python)"

    def run(self, plan: str, out: str | None = None) -> Answer:
        self.child.stdin.write(json.dumps({"plan": plan, "out": out}) + "\n")
        answer = self.read()
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return Answer(answer["seconds"], answer["rows"])


class Floe(Process):
    """`floe-runner serve`: a coordinator and its workers that stay up; jobs go there over HTTP, as a client's would."""

    def __init__(
        self,
        label: str,
        workers: int,
        threads: int,
        mode: str,
        memory: int | None = None,
        execution: dict | None = None,
        runner: str | None = None,
    ):
        self.label, self.mode, self.workers, self.threads = label, mode, workers, threads
        self.execution = {"mode": mode} | (execution or {})
        self.token = secrets.token_hex(16)
        command = [runner or support.binary("floe-runner"), "serve"]
        command += ["--local-workers", str(workers), "--threads", str(threads)]
        if memory is not None:
            command += ["--memory-limit-bytes", str(memory)]
        super().__init__(re.sub(r"\W+", "-", label), command, {"FLOE_TOKEN": self.token})
        self.address = urllib.parse.urlparse(self.hello["http"]).netloc
        self.http = http.client.HTTPConnection(self.address, timeout=600)

    def request(self, method: str, path: str, body: bytes | None = None, token: str | None = None) -> http.client.HTTPResponse:
        self.http.request(method, path, body, {"Authorization": f"Bearer {token or self.token}"})
        # Answers come in several small packets: acknowledge them at once, or each costs the kernel's 40 ms.
        self.http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        answer = self.http.getresponse()
        if answer.status >= 300:
            text = answer.read().decode(errors="replace")
            raise RuntimeError(f"{self.label}: {method} {path}: {answer.status} {text}")
        return answer

    def run(self, plan: str, out: str | None = None) -> Answer:
        """Timed from the bytes of the plan to the frame in this process."""
        body = pathlib.Path(plan).read_bytes()
        begin = time.perf_counter()
        spec = {
            "plan": {"dsl": {"inline": base64.b64encode(body).decode()}},
            "compute": {"workers": self.workers, "cpus": self.threads},
            "execution": self.execution,
        }
        frame, summary, path = self.query(pathlib.Path(plan).stem, spec)
        seconds = time.perf_counter() - begin
        self.request("DELETE", path).read()
        if out:
            frame.write_ipc(out)
        return Answer(
            seconds,
            frame.height,
            len(summary["stages"]),
            summary["bytesShuffled"],
            tuple(f"{one['node']}: {one['reason']}" for one in summary.get("singleWorker", [])),
            summary,
        )

    def query(self, name: str, spec: dict) -> tuple[pl.DataFrame | None, dict, str]:
        """Runs a spec: its result (none with a sink), its summary, and its path on the server."""
        job = {"id": str(uuid.uuid4()), "name": name, "attempt": 1, "spec": spec}
        query = json.loads(self.request("POST", "/api/v1/queries", json.dumps(job).encode()).read())
        path = f"/api/v1/queries/{query['id']}"
        summary = self.outcome(path)
        if "sink" in spec:
            return None, summary, path
        return pl.read_ipc_stream(io.BytesIO(self.request("GET", f"{path}/result").read())), summary, path

    def outcome(self, path: str) -> dict:
        """The query's summary, as soon as its event stream tells of it."""
        stream = http.client.HTTPConnection(self.address, timeout=600)
        try:
            stream.request("GET", f"{path}/events", headers={"Authorization": f"Bearer {self.token}"})
            for line in stream.getresponse():
                if line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    if event["type"] == "done":
                        return event["outcome"]
                    if event["type"] == "error":
                        raise RuntimeError(f"{self.label}: {event['class']}: {event['message']}")
        finally:
            stream.close()
        raise RuntimeError(f"{self.label}: the event stream of {path} ended without an outcome")
