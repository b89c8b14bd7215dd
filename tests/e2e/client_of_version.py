"""A client with its own version of Polars, in a process of its own: queries on a warm context, each held against Polars alone on
this machine. test_python_versions.py starts one for each version; it prints a line for each thing that holds.

It imports nothing but what tests/wheels installs: no store, no pytest fixtures.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time

import polars as pl
import pytest
from polars.testing import assert_frame_equal

REPO = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(REPO / "python" / "src"), str(REPO)]

import floe  # noqa: E402
from tests.python.test_dtypes import come_back_whole  # noqa: E402

PLUGGABLE = tuple(map(int, pl.__version__.split(".")[:2])) >= (1, 44)


def flags(lines: pl.LazyFrame) -> pl.LazyFrame:
    sums = lines.group_by("l_returnflag").agg(pl.len().alias("n"), pl.col("l_linenumber").sum().alias("s"))
    return sums.sort("l_returnflag")


def dtypes(ctx: floe.ComputeContext, told: dict) -> None:
    come_back_whole(ctx)


def engine(ctx: floe.ComputeContext, told: dict) -> None:
    lf = flags(pl.scan_parquet(told["lines"]))
    got = lf.collect(engine=floe.Engine(ctx)) if PLUGGABLE else floe.collect(lf, ctx)
    assert_frame_equal(got, flags(pl.scan_parquet(told["lines"], storage_options=told["options"])).collect(engine="in-memory"))


def sink(ctx: floe.ComputeContext, told: dict) -> None:
    """A directory of files, and as an engine of Polars the one file that it is told."""
    lf = flags(pl.scan_parquet(told["lines"]))
    want = flags(pl.scan_parquet(told["lines"], storage_options=told["options"])).collect(engine="in-memory")
    assert lf.remote(ctx).sink_parquet(f"{told['sink']}many/").await_result().n_rows_total == 3
    written = ["many/*.parquet"]
    if PLUGGABLE:
        lf.sink_parquet(f"{told['sink']}one.parquet", engine=floe.Engine(ctx))
        written.append("one.parquet")
    for name in written:
        got = pl.read_parquet(told["sink"] + name, storage_options=told["options"])
        assert_frame_equal(got.sort("l_returnflag"), want)


def error(ctx: floe.ComputeContext, told: dict) -> None:
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="nothing"):
        pl.scan_parquet(told["lines"]).select("nothing").remote(ctx).collect()


def function(ctx: floe.ComputeContext, told: dict) -> None:
    """Functions are called by the Polars of the image, and that of another version is told."""
    lf = pl.LazyFrame({"n": [1, 2]}).select(pl.col("n").map_elements(lambda n: [n, 1][0], return_dtype=pl.Int64))
    if told["functions"]:
        assert lf.remote(ctx).collect()["n"].to_list() == [1, 2]
        return
    with pytest.raises(floe.exceptions.FloeError, match="(?i)polars"):
        lf.remote(ctx).collect()


def cancel(ctx: floe.ComputeContext, told: dict) -> None:
    lines = pl.scan_parquet(told["lines"]).select("l_suppkey", pl.col("l_quantity").cast(pl.Float64))
    pairs = pl.concat([lines] * 30).join(lines, on="l_suppkey", suffix="_2")
    query = pairs.group_by("l_suppkey").agg((pl.col("l_quantity") * pl.col("l_quantity_2")).sum()).remote(ctx).execute(blocking=False)
    deadline = time.monotonic() + 120
    while (status := query.get_status()) != floe.QueryStatus.INPROGRESS:
        assert not status.is_done() and time.monotonic() < deadline, status
        time.sleep(0.1)
    query.cancel()
    assert query.await_result().status == floe.QueryStatus.CANCELED


def main() -> None:
    told = json.loads(sys.argv[1])
    assert pl.__version__ == told["version"]
    ctx = floe.ComputeContext(**told["context"])
    for check in (dtypes, engine, sink, error, function, cancel):
        begin = time.monotonic()
        check(ctx, told)
        print(f"{check.__name__}: {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
