"""Python functions that are slow, do not end, take too much or lose their worker; and who shares the work."""

from __future__ import annotations

import os
import pathlib
import signal
import time

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe

ROWS = 6_000
#: What one call may take in `hasty`, in seconds.
LIMIT = 3


def made(code: str):
    """A function without a module that a worker would have to find."""
    scope: dict = {}
    exec(code, scope)
    return scope["f"]


def rows(count: int = ROWS) -> pl.LazyFrame:
    return pl.LazyFrame({"n": pl.int_range(count, eager=True)}).with_columns(k=pl.col("n") % 40)


def until(holds, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.02)
    return bool(held)


def gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


def parent(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture(scope="module")
def hasty():
    with floe.Local(workers=1, env={"FLOE_FUNCTION_SECONDS": str(LIMIT)}) as context:
        yield context


@pytest.fixture(scope="module")
def threaded():
    with floe.Local(workers=1, threads=3) as context:
        yield context


ENDLESS = "def f(given):\n    while True: pass"
KINDS = {
    "all rows": lambda f: rows().select(pl.col("n").map_batches(f, return_dtype=pl.Int64)),
    "elements": lambda f: rows().select(pl.col("n").map_elements(f, return_dtype=pl.Int64)),
    "groups": lambda f: rows().group_by("k").agg(pl.col("n").map_batches(f, return_dtype=pl.Int64, returns_scalar=True)),
    "frames of groups": lambda f: rows().group_by("k").map_groups(f, schema={"n": pl.Int64, "k": pl.Int64}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_that_does_not_end_is_ended(hasty, kind):
    begin = time.monotonic()
    with pytest.raises(floe.exceptions.PlanError, match=rf"still running after {LIMIT} s") as error:
        KINDS[kind](made(ENDLESS)).remote(hasty).collect()
    assert error.value.reason == "FunctionTimeout" and "floe.Local(env=" in str(error.value)
    assert time.monotonic() - begin < 20
    assert rows().select(pl.len()).remote(hasty).collect().item() == ROWS


SLOW = {
    "groups": (0.1, lambda f: rows().group_by("k").agg(pl.col("n").map_batches(f, return_dtype=pl.Int64)).sort("k")),
    "elements": (0.04, lambda f: rows(120).select(pl.col("n").map_elements(f, return_dtype=pl.Int64))),
    "frames of groups": (0.1, lambda f: rows().group_by("k").map_groups(f, schema={"n": pl.Int64, "k": pl.Int64}).sort("n")),
}  # fmt: skip


@pytest.mark.parametrize("kind", SLOW)
def test_the_limit_is_one_for_a_part_of_the_work(hasty, kind):
    seconds, query = SLOW[kind]
    slow = made(f"import time\ndef f(given):\n    time.sleep({seconds})\n    return given")
    at_once = made("def f(given): return given")
    begin = time.monotonic()
    got = query(slow).remote(hasty).collect()
    assert time.monotonic() - begin > LIMIT, "it is no test of the limit"
    assert_frame_equal(got, query(at_once).collect(engine="in-memory"))


#: With few rows these give another type, or another number of rows, than with many.
FICKLE = {
    "type": lambda s: pl.Series(s.name, [value / 2 if value >= 20 else value for value in s.to_list()], strict=False),
    "length": lambda s: s.cast(pl.Float64) if len(s) > 50 else pl.Series(s.name, [0.0]),
}


@pytest.mark.parametrize("name", FICKLE)
def test_what_a_few_rows_give_does_not_decide_for_all(hasty, name):
    query = rows(300).select(pl.col("n").map_batches(FICKLE[name], return_dtype=pl.Float64, is_elementwise=True))
    assert_frame_equal(query.remote(hasty).collect(), query.collect(engine="in-memory"))


def test_groups_whose_values_become_the_declared_type_together(hasty):
    def half(series: pl.Series) -> pl.Series:
        return pl.Series([None if series[0] % 2 else series[0] / 2])

    query = rows().group_by("n").agg(pl.col("k").map_batches(half, return_dtype=pl.Float64, returns_scalar=True)).sort("n")
    want = rows().select("n", pl.when(pl.col("k") % 2 == 0).then(pl.col("k") / 2)).collect()
    assert_frame_equal(query.remote(hasty).collect(), want)


def test_the_children_of_a_worker_share_the_groups(threaded):
    def called(series: pl.Series) -> pl.Series:
        time.sleep(0.1)
        return pl.Series([os.getpid()])

    # One group of every list is one morsel: nothing but its groups can be shared.
    grouped = rows(90).group_by("n", maintain_order=True)
    query = grouped.agg(pl.col("k").map_batches(called, return_dtype=pl.Int64, returns_scalar=True))
    got = query.remote(threaded).single_node().collect()
    assert got.height == 90 and got["k"].n_unique() > 1


def test_a_small_input_is_shared_where_functions_are_called(three):
    def seen(value):
        return os.getpid()

    call = pl.col("n").map_elements(seen, return_dtype=pl.Int64)
    query = rows().select(call).remote(three)
    assert query.collect()["n"].n_unique() > 1
    told = query.explain()
    assert "note: the input is small, but Python functions are called for its rows" in told
    for few in (rows(100).select(call), rows().select("n")):
        assert "the input is small" in few.remote(three).explain()
        assert "note: the input is small" not in few.remote(three).explain()


def test_a_fork_bomb_ends_with_its_query(three, tmp_path):
    # Each process forks, and each of these, too; they end by themselves, should nobody end them.
    code = f"""
import os, time
def f(series):
    open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
    end = time.monotonic() + 30
    for _ in range(8): os.fork()
    while time.monotonic() < end: time.sleep(0.1)
    os._exit(0)
"""
    query = rows(10).select(pl.col("n").map_batches(made(code), return_dtype=pl.Int64))
    with pytest.raises(floe.exceptions.PlanError, match="more than 64 processes") as error:
        query.remote(three).collect()
    assert error.value.reason == "FunctionCrashed"
    assert until(lambda: gone(int((tmp_path / "pid").read_text())))
    assert rows().select(pl.len()).remote(three).collect().item() == ROWS


def test_a_worker_that_is_killed_in_a_call_costs_no_rows(tmp_path):
    pids, go = tmp_path / "pids", tmp_path / "go"
    pids.mkdir()
    code = f"""
import os, time
def f(value):
    open({str(pids)!r} + "/" + str(os.getpid()), "w").close()
    while not os.path.exists({str(go)!r}): time.sleep(0.01)
    return value + 1
"""
    lf = rows().select(pl.col("n").map_elements(made(code), return_dtype=pl.Int64))
    with floe.Local(workers=2) as ctx:
        query = lf.remote(ctx).distributed().execute(blocking=False)
        assert until(lambda: len(list(pids.iterdir())) == 2)
        called = int(next(pids.iterdir()).name)
        # The process that looks after the function's is the worker's.
        worker = parent(parent(called))
        assert b"worker" in pathlib.Path(f"/proc/{worker}/cmdline").read_bytes()
        os.kill(worker, signal.SIGKILL)
        assert until(lambda: gone(called)), "what a worker calls ends with it"
        go.touch()
        got = query.await_result().lazy().collect(engine="in-memory")
        assert_frame_equal(got, rows().select(pl.col("n") + 1).collect())
        assert lf.remote(ctx).collect().height == ROWS
