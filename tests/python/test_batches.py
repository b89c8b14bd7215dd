"""Rows batch by batch: as frames, and as a stream of Arrow that other libraries take without holding the whole result."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from floe import _arrow
from floe._batches import Batches
from tests.python.conftest import REPO

ROWS, FRAMES = 1000, 300

#: Reads a result of 480 MB as a stream, and prints its rows and by how many MiB the process grew at most.
READ = """
import re, floe, polars as pl

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024

numbers = pl.LazyFrame({"n": [0]}).select(pl.int_range(0, 20_000_000).alias("a"))
wide = numbers.with_columns((pl.col("a") * 3).alias("b"), (pl.col("a") * 7).alias("c"))
with floe.Local(workers=1) as ctx:
    engine = floe.Engine(ctx)
    before = peak()
    stream = pl.scan_arrow_c_stream(engine.collect_batches(wide)).collect_batches(engine="streaming", maintain_order=True)
    rows = 0
    for frame in stream:
        assert frame["a"][0] == rows and frame["c"][-1] == frame["a"][-1] * 7
        rows += frame.height
    print(rows, peak() - before)
"""


@pytest.fixture
def counted():
    """Many frames of rows in order, and those of them that were made so far."""
    made: list[int] = []

    def frames():
        for at in range(FRAMES):
            made.append(at)
            frame = pl.DataFrame({"n": range(at * ROWS, (at + 1) * ROWS), "at": str(at)})
            # In two chunks, each of which is an array of the stream.
            yield pl.concat([frame.head(400), frame.slice(400)], rechunk=False)

    return frames, made


def test_a_stream_takes_batches_as_they_are_asked_for(counted):
    pa = pytest.importorskip("pyarrow")
    frames, made = counted
    reader = pa.RecordBatchReader.from_stream(Batches(frames))
    assert reader.schema.names == ["n", "at"]
    rows = 0
    for number, batch in enumerate(reader, 1):
        assert batch.column(0)[0].as_py() == rows
        rows += batch.num_rows
        if number == 1:
            ahead = len(made)
    assert rows == ROWS * FRAMES
    assert ahead < FRAMES / 3, f"{ahead} of {FRAMES} batches were made before the second was asked for"


def test_a_stream_is_the_rest_of_the_rows(counted):
    batches = Batches(counted[0])
    taken = [next(batches), next(batches)]
    rest = pl.DataFrame(batches)
    assert [frame["n"][0] for frame in taken] == [0, ROWS] and rest["n"].to_list() == [*range(2 * ROWS, FRAMES * ROWS)]
    with pytest.raises(pl.exceptions.NoDataError, match="have all been taken"):
        pl.DataFrame(batches)


def test_readers_that_hold_the_interpreter_get_rows_and_errors(counted):
    rows = pl.scan_arrow_c_stream(Batches(counted[0])).select(pl.col("n").sum(), pl.len()).collect(engine="streaming")
    assert rows.row(0) == (sum(range(ROWS * FRAMES)), ROWS * FRAMES)

    def broken():
        yield pl.DataFrame({"n": [1]})
        raise RuntimeError("the coordinator is gone")

    with pytest.raises(pl.exceptions.ComputeError, match="RuntimeError: the coordinator is gone"):
        pl.scan_arrow_c_stream(Batches(broken)).collect(engine="streaming")
    with pytest.raises(pl.exceptions.ComputeError, match="RuntimeError: the coordinator is gone"):
        pl.DataFrame(Batches(broken))


@pytest.mark.parametrize("read", [0, 2])
def test_a_stream_that_nobody_reads_on_is_let_go(read):
    pa = pytest.importorskip("pyarrow")
    ended = []

    def frames():
        try:
            while True:
                yield pl.DataFrame({"n": [1]})
        finally:
            ended.append(True)

    before = len(_arrow._sources), len(_arrow._structs)
    if read:
        reader = pa.RecordBatchReader.from_stream(Batches(frames))
        assert [next(reader).num_rows for _ in range(read)] == [1] * read and not ended
        del reader
    else:
        capsule = Batches(frames).__arrow_c_stream__()
        assert "arrow_array_stream" in repr(capsule) and not ended
        del capsule
    gc.collect()
    assert ended and (len(_arrow._sources), len(_arrow._structs)) == before


def test_a_stream_of_a_query_has_its_rows_types_and_errors(ctx, staged):
    engine = floe.Engine(ctx, scaling_mode="distributed")
    assert_frame_equal(pl.DataFrame(engine.collect_batches(staged)), staged.collect(engine="in-memory"))
    empty = staged.filter(pl.col("k") < 0)
    assert_frame_equal(pl.DataFrame(engine.collect_batches(empty)), empty.collect(engine="in-memory"))
    types = pl.LazyFrame(
        {"e": ["x", None], "l": [[1], []], "s": [{"a": 1}, None]},
        schema={"e": pl.Enum(["x", "y"]), "l": pl.List(pl.Int8), "s": pl.Struct({"a": pl.Int32})},
    )
    assert_frame_equal(pl.DataFrame(engine.collect_batches(types)), types.collect(engine="in-memory"))
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="nothing"):
        pl.DataFrame(engine.collect_batches(staged.select("nothing")))


def test_a_large_result_is_read_in_little_memory():
    env = {**os.environ, "PYTHONPATH": str(REPO / "python" / "src")}
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, timeout=300, env=env, cwd=REPO)
    assert done.returncode == 0, done.stderr[-4000:]
    rows, grown = map(int, done.stdout.split())
    assert rows == 20_000_000
    assert grown < 200, f"the process grew by {grown} MiB, and the result has 480 MB"
