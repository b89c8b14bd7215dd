"""Two attempts at one query at once, as real processes: the first coordinator is stopped while its tasks stage, the second
runs to its end, and only then the first goes on. What is there is what the second wrote, exactly."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time

import polars as pl
import pytest

from tests import support


def job(attempt: int, plan: pl.LazyFrame, sink: dict, s3=None) -> dict:
    spec = {
        "plan": {"dsl": {"inline": base64.b64encode(plan.serialize()).decode()}},
        "sink": sink,
        "compute": {"workers": 2, "cpus": "1"},
        "execution": {"mode": "distributed"},
    }
    secrets = {}
    if s3:
        spec["storage"] = s3.storage
        secrets[""] = s3.credentials
    return {"id": "two-attempts", "name": "two-attempts", "attempt": attempt, "spec": spec, "secrets": secrets}


def start(directory: pathlib.Path, name: str, content: dict) -> subprocess.Popen:
    path, scratch = directory / f"{name}.json", directory / f"{name}-scratch"
    scratch.mkdir()
    path.write_text(json.dumps(content))
    log = (directory / f"{name}.log").open("w")
    return subprocess.Popen(
        [support.binary("floe-runner"), "coordinator", "--job", path, "--local-workers", "2", "--scratch", scratch],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {"FLOE_TOKEN": name},
    )  # fmt: skip


def tree(root: int) -> list[int]:
    """A process and all below it."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, grown = {root}, True
    while grown:
        new = {pid for pid, parent in parents.items() if parent in found} - found
        found, grown = found | new, bool(new)
    return sorted(found)


def wait_until(what: str, holds, process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert process.poll() is None, f"the first attempt ended before {what}"
        assert time.monotonic() < until, what
        time.sleep(0.01)


def first_and_second(directory, source, sink, is_staged, s3=None) -> None:
    lineitem = pl.scan_parquet(source / "lineitem" / "*.parquet")
    first = start(directory, "first", job(1, lineitem, sink, s3))
    stopped: list[int] = []
    try:
        wait_until("it staged anything", is_staged, first)
        stopped = tree(first.pid)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        wanted = lineitem.filter(pl.col("l_orderkey") < 2000).select("l_orderkey", "l_linenumber", "l_quantity")
        second = start(directory, "second", job(2, wanted, sink, s3))
        assert second.wait(timeout=120) == 0, (directory / "second.log").read_text()
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        stopped = []
        assert first.wait(timeout=120) != 0, "the first attempt told of a success that it did not have"
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if first.poll() is None:
            first.terminate()
            first.wait(timeout=30)
    storage = s3 and {"endpoint": s3.endpoint, "region": s3.region}
    got = support.read_sink(sink, s3 and s3.credentials, storage)
    support.assert_same(got, wanted.collect(), ordered=True)


@pytest.mark.parametrize("mode", ["error", "overwrite", "append"])
def test_on_disk(tmp_path, data, mode):
    target = tmp_path / "out" / "t"

    def is_staged() -> bool:
        return any(path.stat().st_size > 0 for path in (tmp_path / "out").glob(".floe-*/*/*"))

    first_and_second(tmp_path, data("1"), {"uri": f"{target}/", "format": "parquet", "mode": mode}, is_staged)
    left = [path.name for path in (tmp_path / "out").iterdir()]
    assert left == ["t"], left
    assert all(path.suffix == ".parquet" for path in target.iterdir())


def test_on_s3(tmp_path, data, s3):
    client = s3.client()

    def uploads() -> list:
        return client.list_multipart_uploads(Bucket="floe").get("Uploads", [])

    sink = {"uri": "s3://floe/attempts/t/", "format": "parquet"}
    first_and_second(tmp_path, data("1"), sink, lambda: bool(uploads()), s3)
    assert uploads() == []
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="floe", Prefix="attempts/")["Contents"]]
    assert keys and all(key.startswith("attempts/t/part-") for key in keys), keys
