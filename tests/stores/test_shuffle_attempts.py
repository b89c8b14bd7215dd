"""Two attempts of one query whose shuffle goes to a store. The first coordinator was given up and lives on while the second
runs: what it, or its workers, remove when they end at last is theirs alone."""

from __future__ import annotations

import base64
import json
import pathlib
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

from tests import support

ROWS, KEYS = 300_000, 40_000


def query(tables: str, gate: pathlib.Path) -> pl.LazyFrame:
    """An exchange whose outputs are too large for messages, and then a stage that works until the gate is there."""
    path = str(gate)

    def wait(df: pl.DataFrame) -> pl.DataFrame:
        import os
        import time

        until = time.monotonic() + 120
        while not os.path.exists(path) and time.monotonic() < until:
            time.sleep(0.02)
        return df

    sums = pl.scan_parquet(tables).group_by("k").agg(pl.col("x").sum())
    held = sums.map_batches(wait, streamable=True)
    return held.select(pl.len().alias("n"), pl.col("k").sum(), pl.col("x").sum())


class Store:
    """A bucket of a real S3 server, or a directory that all see."""

    def __init__(self, s3, uri: str):
        self.s3, self.uri = s3, uri

    def names(self) -> set[str]:
        if not self.uri.startswith("s3://"):
            root = pathlib.Path(self.uri)
            return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        prefix = self.uri.removeprefix("s3://floe/")
        listed = self.s3.client().list_objects_v2(Bucket="floe", Prefix=prefix).get("Contents", [])
        return {entry["Key"].removeprefix(prefix) for entry in listed}

    def runs(self) -> set[str]:
        return {name.split("/")[1] for name in self.names()}


class Attempt:
    def __init__(self, directory: pathlib.Path, number: int, spec: dict, s3):
        directory.mkdir()
        self.job = directory / "job.json"
        self.job.write_text(json.dumps({"id": "twice", "name": "twice", "attempt": number, "spec": spec}))
        command = [
            support.binary("floe-runner"), "coordinator", "--events", "stdout", "--local-workers", "2",
            "--job", str(self.job), "--scratch", str(directory),
        ]  # fmt: skip
        environment = s3.environment | {"FLOE_TOKEN": "token", "PATH": "/usr/bin:/bin", "FLOE_PYTHON": sys.executable}
        self.log = (directory / "log").open("w")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment
        )

    def end(self) -> tuple[int, list[dict]]:
        # The pipe of stdin stays open: a closed one cancels.
        lines = self.process.stdout.read().splitlines()
        return self.process.wait(timeout=60), [json.loads(line) for line in lines]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


def eventually(what: str, holds) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.05)


@pytest.mark.parametrize("place", ["s3", "directory"])
@pytest.mark.parametrize("end", ["cancelled", "killed"])
def test_a_late_end_of_the_first_attempt_harms_nothing_of_the_second(place, end, s3, tmp_path):
    tables = tmp_path / "t"
    tables.mkdir()
    for part in range(3):
        rows = range(part * ROWS // 3, (part + 1) * ROWS // 3)
        values = {"k": [row % KEYS for row in rows], "x": [row * 2654435761 % 4294967291 for row in rows]}
        pl.DataFrame(values).write_parquet(tables / f"{part}.parquet")
    gate = tmp_path / "gate"
    plan = query(f"{tables}/*.parquet", gate)
    uri = f"s3://floe/scratch-{end}/" if place == "s3" else f"{tmp_path}/scratch/"
    store = Store(s3, uri)
    spec = {
        "plan": {"dsl": {"inline": base64.b64encode(plan.serialize()).decode()}},
        "execution": {"mode": "distributed", "shuffle": {"place": "store", "uri": uri}},
        "storage": s3.storage,
    }
    first = Attempt(tmp_path / "first", 1, spec, s3)
    second = None
    try:
        eventually("the first attempt writes to the store", store.names)
        (of_first,) = store.runs()
        second = Attempt(tmp_path / "second", 2, spec, s3)
        eventually("the second attempt does, too", lambda: store.runs() - {of_first})
        assert of_first in store.runs() and first.process.poll() is None, "the first is still at work"
        (of_second,) = store.runs() - {of_first}
        assert of_first.startswith("1a-") and of_second.startswith("2a-")

        first.process.send_signal(signal.SIGINT if end == "cancelled" else signal.SIGKILL)
        first.process.wait(timeout=60)
        eventually("what the first wrote goes", lambda: of_first not in store.runs())
        assert second.process.poll() is None and of_second in store.runs(), "the second lost its outputs"

        gate.touch()
        code, events = second.end()
        assert code == 0, (events, (tmp_path / "second" / "log").read_text())
        outcome = next(event for event in events if event["type"] == "done")["outcome"]
        attempts = [stage for stage in outcome["stages"] if stage["attempts"] > stage["tasks"]]
        assert not attempts, f"tasks ran again, because outputs were lost: {attempts}"
        for value in plan.collect().row(0):
            assert str(value) in outcome["table"], outcome["table"]
        eventually("nothing is left", lambda: not store.names())

        # What a coordinator leaves that had no time for anything.
        gate.unlink()
        third = Attempt(tmp_path / "third", 3, spec, s3)
        eventually("the third attempt writes to the store", store.names)
        # Stopped first, so that its workers cannot clean up after it.
        workers = subprocess.run(
            ["pgrep", "-P", str(third.process.pid)], stdout=subprocess.PIPE, text=True, check=True
        ).stdout.split()
        for worker in workers:
            subprocess.run(["kill", "-9", worker], check=True)
        third.kill()
        assert store.names()
        done = subprocess.run(
            [support.binary("floe-runner"), "clean", "--job", str(third.job)], env=s3.environment | {"PATH": "/usr/bin:/bin"}
        )
        assert done.returncode == 0
        assert not store.names(), "clean removes what any attempt left"
    finally:
        first.kill()
        if second is not None:
            second.kill()
