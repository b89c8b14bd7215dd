"""Python functions in plans: called by workers, with what single-node Polars gives and raises."""

from __future__ import annotations

import datetime as dt
import os
import time
import zoneinfo

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from tests.python.test_dtypes import frame

ROWS = 5_000


def rows() -> pl.LazyFrame:
    n = pl.int_range(ROWS, eager=True)
    return pl.LazyFrame(
        {
            "k": n * 7 % 13,
            "n": n,
            "maybe": [None if at % 5 == 0 else at for at in range(ROWS)],
            "x": [at / 3 for at in range(ROWS)],
            "text": [None if at % 11 == 0 else f"row {at % 97}" for at in range(ROWS)],
        }
    )


def doubled(value):
    return value * 2


def centered(group: pl.DataFrame) -> pl.DataFrame:
    return group.select("k", "n", (pl.col("x") - pl.col("x").mean()).alias("away"))


QUERIES = {
    "elements": lambda lf: lf.select("n", pl.col("maybe").map_elements(lambda v: v * 3 + 1, return_dtype=pl.Int64)),
    "elements of a type that is found": lambda lf: lf.select(pl.col("n").map_elements(doubled)),
    "elements that become text": lambda lf: lf.select(pl.col("n").map_elements(lambda v: f"<{v}>", return_dtype=pl.String)),
    "elements that become lists": lambda lf: lf.select(
        pl.col("n").map_elements(lambda v: [v, v + 1], return_dtype=pl.List(pl.Int64))
    ),
    "elements with nulls": lambda lf: lf.select(
        pl.col("maybe").map_elements(lambda v: v is None, return_dtype=pl.Boolean, skip_nulls=False)
    ),
    "elements that become null": lambda lf: lf.select(
        pl.col("n").map_elements(lambda v: v if v % 2 else None, return_dtype=pl.Int64)
    ),
    "element-wise batches": lambda lf: lf.with_columns(
        pl.col("x").map_batches(lambda s: s * 2, return_dtype=pl.Float64, is_elementwise=True).alias("y")
    ),
    "batches of all rows": lambda lf: lf.with_columns(
        pl.col("n").map_batches(lambda s: s.reverse(), return_dtype=pl.Int64).alias("y")
    ),
    "a batch to a value": lambda lf: lf.select(
        pl.col("n").map_batches(lambda s: s.sum(), return_dtype=pl.Int64, returns_scalar=True)
    ),
    "numpy": lambda lf: lf.select(np.sqrt(pl.col("x")), pl.col("x").map_batches(np.cbrt, return_dtype=pl.Float64).alias("y")),
    "several columns": lambda lf: lf.select(
        pl.map_batches(["n", "x"], lambda s: s[0] + s[1], return_dtype=pl.Float64, is_elementwise=True)
    ),
    "in a filter": lambda lf: lf.filter(pl.col("n").map_elements(lambda v: v % 3 == 0, return_dtype=pl.Boolean)),
    "in a key": lambda lf: lf.group_by(pl.col("n").map_elements(lambda v: v % 4, return_dtype=pl.Int64))
    .agg(pl.len().alias("c"))
    .sort("n"),
    "in groups": lambda lf: lf.group_by("k")
    .agg(pl.col("n").map_batches(lambda s: s.max() - s.min(), return_dtype=pl.Int64, returns_scalar=True))
    .sort("k"),
    "in groups, as lists": lambda lf: lf.group_by("k")
    .agg(pl.map_groups(["n", "x"], lambda s: s[0].head(3) + s[1].head(3), return_dtype=pl.Float64))
    .sort("k"),
    "in windows": lambda lf: lf.with_columns(
        pl.col("x").map_batches(lambda s: s - s.min(), return_dtype=pl.Float64).over("k").alias("y")
    ),
    "frames": lambda lf: lf.map_batches(lambda df: df.with_columns(pl.col("n") * 2)),
    "frames by batches": lambda lf: lf.map_batches(lambda df: df.filter(pl.col("k") > 3).with_columns(y=pl.col("n") * 2).drop("text"), streamable=True, schema={"k": pl.Int64, "n": pl.Int64, "maybe": pl.Int64, "x": pl.Float64, "y": pl.Int64}),
    "frames of another schema": lambda lf: lf.map_batches(
        lambda df: df.group_by("k", maintain_order=True).agg(pl.col("x").sum()), schema={"k": pl.Int64, "x": pl.Float64}
    ),
    "frames of groups": lambda lf: lf.group_by("k")
    .map_groups(centered, schema={"k": pl.Int64, "n": pl.Int64, "away": pl.Float64})
    .sort("n"),
    "groups of no rows": lambda lf: lf.group_by("k")
    .map_groups(lambda df: df.filter(pl.col("k") > 6), schema=lf.collect_schema())
    .sort("n"),
    "fold": lambda lf: lf.select(pl.fold(pl.lit(0), lambda a, b: a + b, [pl.col("n"), pl.col("k")])),
    "reduce": lambda lf: lf.select(pl.reduce(lambda a, b: a + b, [pl.col("n"), pl.col("x")])),
    "cumulative fold": lambda lf: lf.select(pl.cum_fold(pl.lit(0), lambda a, b: a + b, [pl.col("n"), pl.col("k")])),
    "cumulative fold with its start": lambda lf: lf.select(
        pl.cum_fold(pl.col("x"), lambda a, b: a * 2 + b, ["n", "k"], include_init=True).alias("sums")
    ).unnest("sums"),
    "cumulative fold of a type": lambda lf: lf.select(
        pl.cum_fold(pl.lit(0.0), lambda a, b: a + b, ["x", "n"], return_dtype=pl.Float64)
    ),
    "cumulative sum": lambda lf: lf.select(pl.cum_sum_horizontal("n", "k")),
    "cumulative reduce": lambda lf: lf.select(pl.cum_reduce(lambda a, b: a + b, [pl.col("n"), pl.col("k")])),
    "rolling": lambda lf: lf.select(pl.col("x").rolling_map(lambda s: s.max() - s.min(), window_size=5)),
    "names": lambda lf: lf.select(pl.all().name.map(lambda name: name.upper() + "!")),
    "after a join": lambda lf: lf.join(lf.select("n", y="x"), on="n")
    .with_columns(pl.struct("n", "y").map_elements(lambda row: row["n"] + row["y"], return_dtype=pl.Float64).alias("z"))
    .sort("n"),
    "several in one": lambda lf: lf.filter(pl.col("n").map_elements(lambda v: v % 2 == 0, return_dtype=pl.Boolean))
    .with_columns(pl.col("n").map_elements(lambda v: v // 2, return_dtype=pl.Int64).alias("half"))
    .group_by("k")
    .agg(pl.col("half").map_elements(lambda v: v + 1, return_dtype=pl.Int64).sum())
    .sort("k"),
    "no rows": lambda lf: lf.filter(pl.col("n") < 0).select(pl.col("n").map_elements(doubled, return_dtype=pl.Int64)),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
def test_the_same_as_single_node(three, name):
    lf = QUERIES[name](rows())
    want = lf.collect(engine="in-memory")
    assert_frame_equal(lf.remote(three).distributed().collect(), want)


def test_frames_by_batches_run_on_many_workers(three):
    def seen(df: pl.DataFrame) -> pl.DataFrame:
        return pl.DataFrame({"pid": [os.getpid()] * df.height})

    query = rows().map_batches(seen, streamable=True, schema={"pid": pl.Int64})
    pids = query.remote(three).distributed().collect()
    assert pids.height == ROWS and pids["pid"].n_unique() > 1


def test_each_dtype_to_a_function_and_back(three):
    lf = pl.concat([frame()] * 4).lazy()
    dtypes = lf.collect_schema()
    for elementwise in (True, False):
        there = [
            pl.col(name).map_batches(lambda s: s.reverse().reverse(), return_dtype=dtype, is_elementwise=elementwise)
            for name, dtype in dtypes.items()
        ]
        query = lf.select(there)
        got = query.remote(three).distributed().collect()
        assert got.schema == dtypes
        assert_frame_equal(got, query.collect(engine="in-memory"), categorical_as_str=True)


@pytest.mark.parametrize("name", ["elements", "in groups", "frames", "in windows"])
def test_the_same_on_one_worker(three, name):
    lf = QUERIES[name](rows())
    assert_frame_equal(lf.remote(three).single_node().collect(), lf.collect(engine="in-memory"))


def test_it_runs_on_many_workers(three):
    pids = rows().select(pl.col("n").map_elements(lambda v: os.getpid(), return_dtype=pl.Int64))
    seen = set(pids.remote(three).distributed().collect()["n"])
    assert len(seen) > 1 and os.getpid() not in seen


class Refused(Exception):
    pass


def fails(error):
    def function(values):
        raise error

    return function


@pytest.mark.parametrize(
    "error", [ValueError("no good"), ZeroDivisionError("by nothing"), KeyError("key"), pl.exceptions.ComputeError("mine")]
)
def test_errors_are_those_of_the_function(three, error):
    lf = rows().select(pl.col("n").map_batches(fails(error), return_dtype=pl.Int64))
    with pytest.raises(type(error)) as theirs:
        lf.collect(engine="in-memory")
    with pytest.raises(type(error)) as ours:
        lf.remote(three).distributed().collect()
    (told,) = ours.value.args
    assert error.args[0] in str(theirs.value) and error.args[0] in told
    assert "in the Python function fails.<locals>.function:\n  " in told
    assert told.endswith("in function") or "raise error" in told
    assert "_wrap" not in told


def test_an_error_of_the_users_own_class_names_it(three):
    lf = rows().select(pl.col("n").map_batches(fails(Refused("not today")), return_dtype=pl.Int64))
    with pytest.raises(floe.exceptions.PlanError, match="not today") as error:
        lf.remote(three).distributed().collect()
    assert error.value.reason == "Refused"


WRONG = {
    "another type": (lambda lf: lf.select(pl.col("n").map_batches(lambda s: s.cast(pl.String), return_dtype=pl.Int64)), "expected output type"),
    "no column": (lambda lf: lf.select(pl.col("n").map_batches(lambda s: 5, return_dtype=pl.Int64)), "must return a Series"),
    "no frame": (lambda lf: lf.map_batches(lambda df: 5), "to return a 'DataFrame'"),
    "other columns": (lambda lf: lf.map_batches(lambda df: df.select("n")), "output schema of 'LazyFrame.map' is incorrect"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_results_are_errors_alike(three, name):
    make, words = WRONG[name]
    lf = make(rows())
    with pytest.raises(Exception, match=words) as theirs:
        lf.collect(engine="in-memory")
    with pytest.raises(type(theirs.value), match=words):
        lf.remote(three).distributed().collect()


FAULTS = {
    "exit": ("import os\ndef f(v): os._exit(3)", "exit code 3"),
    "segfault": ("import ctypes\ndef f(v): return ctypes.string_at(0)", "segmentation fault"),
    "memory": ("def f(v): return bytearray(64 << 30)", "more memory than its limit"),
    "sys.exit": ("import sys\ndef f(v): sys.exit(4)", "SystemExit|4"),
}


def made(code: str):
    scope: dict = {}
    exec(code, scope)
    return scope["f"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_function_that_ends_its_process_fails_its_query_only(three, name):
    code, words = FAULTS[name]
    function = made(code)
    lf = rows().select(pl.col("n").map_batches(function, return_dtype=pl.Int64))
    with pytest.raises(Exception, match=words):
        lf.remote(three).distributed().collect()
    assert rows().select(pl.col("n").sum()).remote(three).distributed().collect().item() == sum(range(ROWS))


@pytest.mark.parametrize(
    "code",
    [
        "import sys\ndef f(s):\n    print('x' * 3_000_000)\n    sys.stderr.write('y' * 3_000_000)\n    return s",
        "import os\ndef f(s):\n    for fd in (0, 1, 2): os.close(fd)\n    return s",
        "import threading, time\ndef f(s):\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n    return s",
    ],
)
def test_what_functions_do_beside_their_work_harms_nothing(three, code):
    lf = rows().select(pl.col("n").map_batches(made(code), return_dtype=pl.Int64))
    assert_frame_equal(lf.remote(three).distributed().collect(), rows().select("n").collect())


def test_cancelling_ends_a_function_at_once(three, tmp_path):
    began = tmp_path / "pid"
    code = f"import os, time\ndef f(s):\n    open({str(began)!r}, 'w').write(str(os.getpid()))\n    while True: pass"
    query = rows().select(pl.col("n").map_batches(made(code), return_dtype=pl.Int64)).remote(three).execute(blocking=False)
    until = time.monotonic() + 20
    while not (began.exists() and began.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    pid = int(began.read_text())
    query.cancel()
    until = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < until:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")
    assert rows().select(pl.len()).remote(three).collect().item() == ROWS


def test_nothing_of_them_is_left_when_the_engine_ends(tmp_path):
    # The type of what it gives is found while the query is planned, beside the coordinator.
    lf = rows().select(pl.col("n").map_elements(doubled))
    with floe.Local(workers=2, scratch=tmp_path, env={"TMPDIR": str(tmp_path)}) as ctx:
        for _ in range(2):
            lf.remote(ctx).distributed().collect()
        assert list(tmp_path.rglob("floe-functions-*")), "one is kept for the next query"
    until = time.monotonic() + 10
    while (left := list(tmp_path.rglob("floe-functions-*"))) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def test_functions_do_not_see_the_engines_token(three):
    code = "import os\ndef f(v): return ','.join(sorted(os.environ))"
    lf = rows().head(1).select(pl.col("n").map_elements(made(code), return_dtype=pl.String))
    names = lf.remote(three).collect().item().split(",")
    assert not [name for name in names if "FLOE" in name or "TOKEN" in name or "AWS" in name]


def test_sources_in_python(three):
    from polars.io.plugins import register_io_source

    def source(with_columns, predicate, n_rows, batch_size):
        for at in range(3):
            df = pl.DataFrame({"a": [at, at + 10], "b": ["x", None]})
            if predicate is not None:
                df = df.filter(predicate)
            yield df if with_columns is None else df.select(with_columns)

    for schema in ({"a": pl.Int64, "b": pl.String}, lambda: pl.Schema({"a": pl.Int64, "b": pl.String})):
        lf = register_io_source(source, schema=schema).filter(pl.col("a") > 1).select("b", (pl.col("a") * 2).alias("c"))
        want = lf.collect(engine="in-memory")
        assert_frame_equal(lf.remote(three).distributed().collect(), want)


def asked(with_columns, predicate, n_rows, batch_size):
    """A source that tells what it is asked for."""
    frame = hundred().with_columns(asked=pl.lit(f"{with_columns} {predicate} {n_rows}"))
    frame = (frame if predicate is None else frame.filter(predicate)).head(n_rows or 100)
    yield frame if with_columns is None else frame.select(with_columns)


def hundred() -> pl.DataFrame:
    return pl.DataFrame({"a": range(100), "b": "x"})


def test_sources_get_columns_filters_and_limits(three):
    from polars.io.plugins import register_io_source

    large, rooted = pl.col("a") > 97, pl.col("a").sqrt() > 2
    source = register_io_source(asked, schema={"a": pl.Int64, "b": pl.String, "asked": pl.String})
    for query, want in [
        (lambda lf: lf, "None None None"),
        (lambda lf: lf.select("asked", "a"), "['a', 'asked'] None None"),
        (lambda lf: lf.filter(large), 'None [(col("a")) > (dyn int: 97)] None'),
        (lambda lf: lf.filter(pl.col("b") == "x").select("asked"), "['b', 'asked'] [(col(\"b\")) == (\"x\")] None"),
        (lambda lf: lf.head(3), "None None 3"),
        (lambda lf: lf.slice(2, 3).select("a", "asked"), "['a', 'asked'] None None"),
        # The rows of the limit are filtered, not the filtered rows limited.
        (lambda lf: lf.head(3).filter(pl.col("a") > 1), "None None 3"),
        # The part that every release of Polars says alike; the rest stays above.
        (lambda lf: lf.filter(large, rooted), 'None [(col("a")) > (dyn int: 97)] None'),
        (lambda lf: lf.filter(rooted), "None None None"),
        (lambda lf: lf.join(lf.select("a").head(1), on="a").select("asked"), "['a', 'asked'] None None"),
    ]:
        got = query(source).remote(three).distributed().collect()
        assert got.get_column("asked").unique().to_list() == [want], query(source).explain()
        plain = query(hundred().lazy().with_columns(asked=pl.lit(want))).collect()
        assert_frame_equal(got, plain, check_row_order=False)


def test_filters_mean_to_sources_what_they_mean_to_polars(three):
    from polars.io.plugins import register_io_source

    day, zone = dt.datetime(2024, 1, 1), zoneinfo.ZoneInfo("Europe/Berlin")
    table = pl.DataFrame(
        {
            "i": pl.Series([1, None, 3, -4], dtype=pl.Int8),
            "u": pl.Series([1, 2, None, 2**63], dtype=pl.UInt64),
            "f": pl.Series([0.1, None, float("nan"), 3.5], dtype=pl.Float32),
            "s": ["a", None, "c", "ä'\""],
            "b": [True, None, False, True],
            "d": [day.date(), None, dt.date(1969, 12, 31), dt.date(2300, 1, 1)],
            "t": pl.Series([day, None, dt.datetime(1969, 12, 31, 23), day], dtype=pl.Datetime("ns")),
            "z": pl.Series([day, None, day, day], dtype=pl.Datetime("ms")).dt.replace_time_zone("Europe/Berlin"),
        }
    )
    said = [
        pl.col("i") > 1,
        pl.col("i") != -4,
        pl.col("u") >= 2**63,
        pl.col("f") <= 0.1,
        pl.col("s") == "ä'\"",
        pl.col("s").is_in(["a", "c", None]),
        pl.col("b"),
        ~pl.col("b"),
        pl.col("d") < dt.date(2000, 1, 1),
        pl.col("z") >= dt.datetime(2024, 1, 1, tzinfo=zone),
        pl.col("s").is_null() | (pl.col("i") == 3),
        pl.col("s").is_not_null() & pl.col("f").is_not_null(),
    ]
    # Polars compares after casts.
    unsaid = [pl.col("i").is_in([1, 3]), pl.col("t") == day, pl.col("i") < pl.col("f")]
    must_come = True

    def source(with_columns, predicate, n_rows, batch_size):
        if (predicate is not None) != must_come:
            raise ValueError(f"the filter that came: {predicate}")
        frame = table if predicate is None else table.filter(predicate)
        yield frame if with_columns is None else frame.select(with_columns)

    for predicate in said + unsaid:
        must_come = any(predicate is one for one in said)
        lf = register_io_source(source, schema=table.schema).filter(predicate)
        assert_frame_equal(lf.remote(three).collect(), table.filter(predicate))


def test_a_source_in_parts_is_read_by_all_workers(three):
    def source(part, with_columns, predicate, n_rows, batch_size):
        first, last = part
        frame = pl.DataFrame({"n": range(first, last), "process": [os.getpid()] * (last - first)})
        yield frame if with_columns is None else frame.select(with_columns)

    lf = floe.partitions(source, [(0, 3), (3, 4), (4, 4), (4, 9)], schema={"n": pl.Int64, "process": pl.Int64})
    got = lf.remote(three).collect()
    assert got.get_column("n").to_list() == list(range(9))
    assert got.get_column("process").n_unique() > 1
    assert lf.select("n").head(4).remote(three).collect().get_column("n").to_list() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="parts"):
        floe.partitions(source, [], schema={"n": pl.Int64})


def test_functions_see_the_variables_that_the_query_gives_itself():
    env = {"API_KEY": "for functions", "OTHER": "not for them", "FLOE_FUNCTION_ENV": "API_KEY,NOT_THERE"}
    code = "import os\ndef f(v): return ','.join(os.environ.get(name, '-') for name in ('API_KEY', 'OTHER', 'NOT_THERE'))"
    with floe.Local(workers=1, env=env) as ctx:
        lf = rows().head(1).select(pl.col("n").map_elements(made(code), return_dtype=pl.String))
        assert lf.remote(ctx).collect().item() == "for functions,-,-"


def test_they_can_be_switched_off():
    with floe.Local(workers=1, env={"FLOE_PYTHON_FUNCTIONS": "deny"}) as ctx:
        lf = rows().select(pl.col("n").map_elements(doubled, return_dtype=pl.Int64))
        with pytest.raises(floe.exceptions.UnsupportedPlanError, match="map_elements"):
            lf.remote(ctx).collect()
