"""Warm processes for the benchmarks: Floe's coordinator with its workers, and single-process Polars in Python.

Each engine answers `run(plan) -> Answer` for the path of a serialized plan. Starting the processes is timed apart.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time


@dataclasses.dataclass
class Answer:
    seconds: float
    rows: int
    stages: int = 1
    bytes_shuffled: int = 0
    single_worker: tuple[str, ...] = ()


class Lines:
    """A child process that answers each line on its stdin with one line of JSON on its stdout."""

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

    def ask(self, request: dict) -> dict:
        self.child.stdin.write(json.dumps(request) + "\n")
        answer = self.read()
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.stdin.close()
            try:
                self.child.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.log.unlink(missing_ok=True)


class Wheel(Lines):
    """Single-process Polars, Python wheel."""

    def __init__(self, threads: int, engine: str = "streaming"):
        super().__init__("polars wheel", [sys.executable, "-m", "bench.wheel", engine], {"POLARS_MAX_THREADS": str(threads)})
        self.label = f"Polars {self.hello['version']} (Python)"

    def run(self, plan: str, out: str | None = None) -> Answer:
        answer = self.ask({"plan": plan, "out": out})
        return Answer(answer["seconds"], answer["rows"])
