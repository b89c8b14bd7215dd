"""Errors: Polars' own where it is Polars that complained, in its own words; Floe's where it is Floe."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import polars as pl
import pytest

import floe
from floe.exceptions import (
    ContextError,
    FloeError,
    InternalError,
    PlanError,
    QueryWarning,
    StorageError,
    UnsupportedPlanError,
    error_of,
)

BROKEN = {
    "column": lambda: pl.LazyFrame({"a": [1]}).select("b"),
    "cast": lambda: pl.LazyFrame({"a": ["x"]}).select(pl.col("a").cast(pl.Int64)),
    "schema": lambda: pl.LazyFrame({"a": ["x"]}).select(pl.col("a").str.strptime(pl.Date, "%Y")),
    "shape": lambda: pl.LazyFrame({"a": [1, 2], "b": [[1], [1, 2]]}).select(pl.col("b").list.to_array(1)),
    "duplicate": lambda: pl.LazyFrame({"a": [1]}).select(pl.col("a"), pl.col("a")),
    "file": lambda: pl.scan_parquet("/nowhere/at/all.parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_error_is_the_one_that_polars_raises(ctx, name):
    lf = BROKEN[name]()
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        lf.collect(engine="streaming")
    with pytest.raises(type(theirs.value)) as ours:
        lf.remote(ctx).collect()
    assert type(ours.value) is type(theirs.value)
    assert str(ours.value).splitlines()[0] == str(theirs.value).splitlines()[0]
    assert ours.value.query_id and ours.value.category == "user"


def test_python_that_is_not_called_is_refused_by_name(ctx):
    lf = pl.LazyFrame({"a": [1]}).pipe_with_schema(lambda frame, schema: frame)
    with pytest.raises(UnsupportedPlanError, match="pipe_with_schema"):
        lf.remote(ctx).collect()


def test_every_category_has_its_class():
    classes = {
        "User": PlanError, "Io": StorageError, "LostWorker": floe.exceptions.WorkerLostError,
        "OutOfMemory": floe.exceptions.OutOfMemoryError, "Deadline": floe.exceptions.DeadlineError,
        "Cancelled": floe.exceptions.QueryCancelledError, "Internal": InternalError, "unheard of": InternalError,
    }  # fmt: skip
    for category, known in classes.items():
        error = error_of({"category": category, "class": "Some", "message": "words"}, "q1")
        assert type(error) is known and "words" in str(error) and error.query_id == "q1", category
        assert isinstance(error, FloeError)
    assert isinstance(error_of({"category": "Io", "class": "OSError", "message": ""}), OSError)
    assert isinstance(error_of({"category": "User", "class": "FileNotFoundError", "message": ""}), FileNotFoundError)
    assert isinstance(error_of({"category": "OutOfMemory", "class": "", "message": ""}), MemoryError)


def test_warnings_of_a_query_are_warnings(ctx):
    lf = pl.LazyFrame({"t": [1, 2], "k": ["a", "b"]})
    other = pl.LazyFrame({"t": [1, 2], "k": ["a", "b"], "v": [1, 2]})
    with pytest.warns(QueryWarning, match="[Ss]orted"):
        lf.join_asof(other, on="t", by="k").remote(ctx).collect()


def test_an_engine_that_ends_is_told_and_started_again(endless):
    with floe.Local(workers=1) as ctx:
        query = endless.remote(ctx).execute(blocking=False)
        ctx._server._child.kill()
        ctx._server._child.wait()
        with pytest.raises(ContextError, match="engine has ended"):
            query.await_result()
        with pytest.warns(floe.exceptions.ContextWarning, match="started again"):
            assert pl.LazyFrame({"a": [1]}).remote(ctx).collect().item() == 1


def test_a_wrong_token_is_refused(ctx):
    from floe._http import Coordinator

    own = ctx._running().coordinator
    with pytest.raises(ContextError, match="token"):
        Coordinator(own._host, own._port, "wrong").json("GET", "/api/v1/queries")


def test_a_closed_context_says_so():
    ctx = floe.Local(workers=1)
    ctx.close()
    with pytest.raises(ContextError, match="closed"):
        pl.LazyFrame({"a": [1]}).remote(ctx).collect()
    ctx.start()
    assert pl.LazyFrame({"a": [1]}).remote(ctx).collect().item() == 1
    ctx.close()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"workers": 0}, "workers: 0"),
        ({"workers": 1, "threads": 1.5}, "threads: 1.5"),
        ({"workers": 1, "memory": "lots"}, "memory: 'lots'"),
        ({"workers": 1, "memory": 1000}, "64Mi"),
    ],
)
def test_contexts_that_cannot_be_are_refused_by_name(settings, match):
    with pytest.raises(ValueError, match=match):
        floe.Local(**settings)


def test_a_runner_that_is_not_there_or_does_not_start(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOE_RUNNER", str(tmp_path / "none"))
    with pytest.raises(ContextError, match="FLOE_RUNNER"):
        floe.Local(workers=1)
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho out of order >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("FLOE_RUNNER", str(broken))
    with pytest.raises(ContextError, match=r"exit code 3:\s+out of order"):
        floe.Local(workers=1)
    broken.write_text("#!/bin/sh\nsleep 60\n")
    with pytest.raises(ContextError, match=r"not ready after 0\.3 s"):
        floe.Local(workers=1, start_timeout=0.3)


def test_without_its_library_a_cluster_says_what_to_install():
    code = "import sys; sys.modules['kubernetes'] = None; import floe; floe.Kubernetes()"
    source = pathlib.Path(floe.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(source)})
    assert "pip install kubernetes" in done.stderr
