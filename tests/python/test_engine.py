"""`floe.Engine`: every method of Polars' engines, with single-node Polars as the oracle."""

from __future__ import annotations

import asyncio
import inspect
import io
import time

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from floe.exceptions import IgnoredArgumentWarning, UnsupportedPlanError
from tests.python.conftest import pluggable


def oracle(lf: pl.LazyFrame) -> pl.DataFrame:
    return lf.collect(engine="in-memory")


def test_collect_gives_what_polars_gives(engine, staged):
    assert_frame_equal(engine.collect(staged), oracle(staged))


def test_collect_in_stages_gives_the_same(ctx, staged):
    engine = floe.Engine(ctx, scaling_mode="distributed", partitions_per_worker=2, equi_join_broadcast_limit=0)
    assert_frame_equal(engine.collect(staged), oracle(staged))
    assert engine.execute(staged).total_stages > 1


@pluggable
def test_polars_takes_it_as_an_engine(engine, staged):
    assert_frame_equal(staged.collect(engine=engine), oracle(staged))
    with pl.Config(engine_affinity=engine):
        assert_frame_equal(staged.collect(), oracle(staged))
        first, second = pl.collect_all([staged, staged.head(1)])
    assert first.height == 7 and second.height == 1
    assert "SORT" in staged.explain(engine=engine)


@pluggable
def test_no_method_of_the_base_class_is_left_out():
    from polars.lazyframe.engine import Engine

    own = {name for cls in floe.Engine.__mro__ if cls.__module__.startswith("floe.") for name in vars(cls)}
    for name, member in vars(Engine).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, property)):
            assert name in own, name


@pluggable
def test_every_argument_of_the_base_class_is_taken():
    from polars.lazyframe.engine import Engine

    for name, member in vars(Engine).items():
        if name.startswith("_") or not callable(member) or name == "register":
            continue
        ours = inspect.signature(getattr(floe.Engine, name)).parameters
        any_name = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in ours.values())
        missing = [one for one in inspect.signature(member).parameters if one not in ours]
        assert any_name or not missing, (name, missing)


def test_background(engine, staged, endless):
    query = engine.collect(staged, background=True)
    assert_frame_equal(query.fetch_blocking(), oracle(staged))
    assert_frame_equal(query.fetch(), oracle(staged))
    query = engine.collect(endless, background=True)
    assert query.fetch() is None
    query.cancel()
    with pytest.raises(floe.exceptions.QueryCancelledError):
        query.fetch_blocking()


def test_async(engine, staged, endless):
    async def run():
        one, both = await asyncio.gather(
            _await(engine.collect_async(staged)), _await(engine.collect_all_async([staged, staged.head(2)]))
        )
        assert_frame_equal(one, oracle(staged))
        assert [frame.height for frame in both] == [7, 2]
        waiting = asyncio.ensure_future(_await(engine.collect_async(endless)))
        await asyncio.sleep(0.3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(pl.exceptions.ColumnNotFoundError):
            await engine.collect_async(staged.select("nothing"))

    asyncio.run(run())
    _nothing_runs(engine.context)


async def _await(awaitable):
    return await awaitable


@pluggable
def test_gevent(engine, staged):
    pytest.importorskip("gevent")
    one = staged.collect_async(gevent=True, engine=engine)
    both = pl.collect_all_async([staged, staged.head(2)], gevent=True, engine=engine)
    want = staged.collect(engine="in-memory")
    assert_frame_equal(one.get(timeout=60), want)
    assert [frame.height for frame in both.get(timeout=60)] == [want.height, 2]
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="nothing"):
        staged.select("nothing").collect_async(gevent=True, engine=engine).get(timeout=60)


def _nothing_runs(ctx):
    """Within ten seconds."""
    until = time.monotonic() + 10
    while True:
        told = ctx._running().coordinator.json("GET", "/api/v1/queries")
        running = [one for one in told if one["phase"] not in ("Succeeded", "Failed", "Cancelled")]
        if not running:
            return
        assert time.monotonic() < until, running
        time.sleep(0.05)


def test_batches(engine):
    lf = pl.LazyFrame({"a": range(1000)}).filter(pl.col("a") != 500)
    frames = list(engine.collect_batches(lf, chunk_size=100))
    assert [frame.height for frame in frames] == [100] * 9 + [99]
    assert_frame_equal(pl.concat(frames), oracle(lf))
    lazy = engine.collect_batches(lf, lazy=True)
    assert_frame_equal(pl.concat(list(lazy)), oracle(lf))
    none = list(engine.collect_batches(lf.filter(pl.col("a") < 0)))
    assert [frame.shape for frame in none] == [(0, 1)]


def test_batches_are_an_arrow_stream(engine):
    lf = pl.LazyFrame({"a": range(10), "b": ["x"] * 10})
    assert_frame_equal(pl.DataFrame(engine.collect_batches(lf)), oracle(lf))


def test_batches_that_nobody_reads_stop_the_query(engine, endless):
    batches = engine.collect_batches(endless)
    del batches
    _nothing_runs(engine.context)


def test_sink_batches_stops_when_told(engine):
    got = []

    def take(frame: pl.DataFrame) -> bool:
        got.append(frame.height)
        return len(got) == 2

    engine.sink_batches(pl.LazyFrame({"a": range(100)}), take, chunk_size=10)
    assert got == [10, 10]


def test_execute_is_a_query_result(engine, staged):
    result = engine.execute(staged)
    assert result.n_rows_total == 7
    assert_frame_equal(result.head, oracle(staged))
    assert_frame_equal(result.lazy().collect(engine="in-memory"), oracle(staged))
    try:
        from polars.lazyframe.query_result import QueryResult
    except ImportError:
        return
    assert isinstance(result, QueryResult)


def test_post_opt_callback_is_refused_by_name(engine, staged):
    with pytest.raises(UnsupportedPlanError, match="post_opt_callback"):
        engine.collect(staged, post_opt_callback=lambda *_: None)


def test_optimizations_that_mean_nothing_warn(engine, staged):
    with pytest.warns(IgnoredArgumentWarning, match="predicate_pushdown"):
        frame = engine.collect(staged, optimizations=pl.QueryOptFlags(predicate_pushdown=False))
    assert_frame_equal(frame, oracle(staged))


def test_without_a_context_it_takes_the_one_that_is_set(ctx, staged):
    with pytest.raises(RuntimeError, match="set_compute_context"):
        floe.Engine().collect(staged)
    with floe.set_compute_context(ctx):
        assert floe.Engine().collect(staged).height == 7


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"scaling_mode": "fast"}, "scaling_mode: 'fast'"),
        ({"n_retries": -1}, "n_retries: -1"),
        ({"shuffle_compression": "gzip"}, "shuffle_compression: 'gzip'"),
        ({"min_workers": 3, "max_workers": 2}, "above max_workers"),
        ({"partitions_per_worker": 0}, "partitions_per_worker: 0"),
        ({"scaling_mode": "single-node", "partitions_per_worker": 2}, "partitions_per_worker"),
        ({"single_worker_ops": "maybe"}, "single_worker_ops: 'maybe'"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(ctx, settings, match):
    with pytest.raises(ValueError, match=match):
        floe.Engine(ctx, **settings)
    with pytest.raises(TypeError, match="nothing_like_it"):
        floe.Engine(ctx, nothing_like_it=1)


def test_files_of_this_process_are_written_here(engine, staged):
    buffer = io.BytesIO()
    engine.sink_parquet(staged, buffer, compression="zstd")
    buffer.seek(0)
    assert_frame_equal(pl.read_parquet(buffer), oracle(staged))
