"""Functions that start queries, by the names of Polars Cloud."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from polars.io.partition import PartitionBy
from polars.lazyframe.opt_flags import DEFAULT_QUERY_OPT_FLAGS

from floe import _options, _run, _sinks
from floe._context import ClientContext, pick
from floe._dst import CallbackDst, ClientDst, Dst, ParquetDst, TableDst, TmpDst
from floe._lineage import LineageContext
from floe._options import (
    DistributionSettings,
    EngineName,
    ExecuteUntil,
    Labels,
    PlanTypePreference,
    Settings,
    ShuffleCompression,
    ShuffleFormat,
)
from floe._planned import planned
from floe._query import DirectQuery
from floe._report import Report
from floe._request import Request
from floe.exceptions import UnsupportedPlanError
from floe._result import QueryResult


def spawn(
    lf: pl.LazyFrame,
    *,
    dst: str | Path | Dst,
    context: ClientContext | None = None,
    engine: EngineName = "auto",
    plan_type: PlanTypePreference = "dot",
    labels: Labels = None,
    shuffle_compression: ShuffleCompression = "auto",
    shuffle_format: ShuffleFormat = "auto",
    shuffle_compression_level: int | None = None,
    distributed: DistributionSettings | bool | None = None,
    n_retries: int | None = None,
    priority: int = 0,
    min_workers: int | None = None,
    max_workers: int | None = None,
    sink_to_single_file: bool | None = None,
    optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    lineage: LineageContext | None = None,
    execute_until: ExecuteUntil = "execute",
) -> DirectQuery:
    """Start a query, and return at once.

    Parameters
    ----------
    lf
        The query.
    dst
        Where its rows go: a path or URI (Parquet), or a `ParquetDst` and its kin.
    context
        Where it runs. Left out, the context of `set_compute_context`.
    engine, plan_type, labels, n_retries, priority, lineage
        As in `LazyFrame.remote`.
    shuffle_compression, shuffle_format, shuffle_compression_level, min_workers, max_workers
        As in `LazyFrameRemote.distributed`.
    distributed
        Settings of a distributed query, or `True` for one as `LazyFrameRemote.distributed` makes it; `False` runs it on one
        worker. Left out, it is cut into stages where that gains.
    sink_to_single_file
        Write one file, or a directory of files. Left out, the path tells: a name with a dot is a file.
    optimizations
        Means nothing but to Polars: Floe optimizes every plan with all passes.
    execute_until : {'execute', 'physical', 'ir'}
        Run the query, or only plan it: nothing is read or written then, and `plan` and `graph` show what would be done.

    Examples
    --------
    >>> import floe, polars as pl
    >>> with floe.Local(workers=1) as ctx:
    ...     query = floe.spawn(pl.LazyFrame({"a": [1, 2]}), dst=floe.TmpDst(), context=ctx)
    ...     query.await_result().n_rows_total
    2
    """
    _options.one_of("execute_until", execute_until, "execute", "physical", "ir")
    _options.check_engine(engine)
    _options.check_plan_type(plan_type)
    _options.check_shuffle(shuffle_format, shuffle_compression_level)
    mode: _options.ScalingMode = "auto"
    if distributed is not None:
        mode = "single-node" if distributed is False else "distributed"
    settings = Settings(
        mode=mode,
        n_retries=n_retries,
        priority=priority,
        labels=_options.as_labels(labels) | (lineage.labels() if lineage is not None else {}),
        min_workers=min_workers,
        max_workers=max_workers,
        shuffle_compression=shuffle_compression,
        distributed=distributed if isinstance(distributed, DistributionSettings) else None,
    )
    return start(lf, dst, context, settings, optimizations, sink_to_single_file, execute_until)


def start(
    lf: pl.LazyFrame,
    dst: str | Path | Dst,
    context: ClientContext | None,
    settings: Settings,
    optimizations: pl.QueryOptFlags,
    sink_to_single_file: bool | None = None,
    execute_until: ExecuteUntil = "execute",
) -> DirectQuery:
    """Starts a query with all settings checked."""
    if isinstance(dst, (str, Path)):
        if str(dst) == "local":
            raise ValueError("dst: 'local' would run the query in this process: collect() does")
        dst = ParquetDst(dst, credential_provider=None)
    target = None
    if dst._kind is not None:
        target = _sinks.target_of(dst.uri, sink_to_single_file)  # type: ignore[attr-defined]
        lf = _sinks.plan(lf, dst._kind, target, dst._arguments())
    elif sink_to_single_file is not None:
        raise ValueError(f"sink_to_single_file: {type(dst).__name__} writes no files")
    if isinstance(dst, ClientDst) and dst.ttl is not None:
        _options.ignored("ttl", "rows stay until they are read, or make room for those of later queries")
    asked = _run.request(lf, settings, optimizations, keep=isinstance(dst, TmpDst))
    if isinstance(dst, TableDst):
        if asked.sinks:
            raise UnsupportedPlanError(f"{type(dst).__name__}: the plan ends in sinks of its own")
        asked = dataclasses.replace(asked, sink=dst._sink(), sinks=True)
    if execute_until != "execute":
        return planned(pick(context), lf, asked, execute_until)
    query = _run.start(pick(context), lf, asked)
    query._dst = dst
    return CallbackQuery(query, asked, dst) if isinstance(dst, CallbackDst) else query


class CallbackQuery(DirectQuery):
    """A query whose rows a function of this process takes."""

    def __init__(self, query: DirectQuery, asked: Request, dst: CallbackDst) -> None:
        super().__init__(query._execution, query._ir)
        self._error_of_function: BaseException | None = None
        self._feeding = threading.Thread(target=self._feed, args=(dst,), name="floe-batches", daemon=True)
        self._feeding.start()

    def _feed(self, dst: CallbackDst) -> None:
        try:
            report = super()._wait(silent=True)
            if report.phase != "Succeeded":
                return
            frames = self._batches()
            for frame in frames if dst.chunk_size is None else _run._cut(frames, dst.chunk_size):
                if dst.function(frame):
                    return
        except BaseException as error:  # noqa: BLE001 - told to who waits
            self._error_of_function = error

    def _wait(self, silent: bool | None = None) -> Report:
        report = super()._wait(silent)
        self._feeding.join()
        if self._error_of_function is not None:
            raise self._error_of_function
        return report


def spawn_blocking(
    lf: pl.LazyFrame,
    *,
    dst: str | Path | Dst,
    context: ClientContext | None = None,
    engine: EngineName = "auto",
    plan_type: PlanTypePreference = "dot",
    labels: Labels = None,
    shuffle_compression: ShuffleCompression = "auto",
    shuffle_format: ShuffleFormat = "auto",
    shuffle_compression_level: int | None = None,
    distributed: DistributionSettings | bool | None = None,
    n_retries: int | None = None,
    priority: int = 0,
    min_workers: int | None = None,
    max_workers: int | None = None,
    sink_to_single_file: bool | None = None,
    optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    lineage: LineageContext | None = None,
    execute_until: ExecuteUntil = "execute",
) -> QueryResult:
    """Run a query and block until its result is there. The arguments are those of `spawn`.

    Examples
    --------
    >>> import floe, polars as pl
    >>> with floe.Local(workers=1) as ctx:
    ...     floe.spawn_blocking(pl.LazyFrame({"a": [1, 2]}), dst=floe.TmpDst(), context=ctx).n_rows_total
    2
    """
    return spawn(lf, **_options.passed_on(locals(), "lf")).await_result()


def spawn_many(
    lf: Sequence[pl.LazyFrame],
    *,
    dst: str | Path | Dst,
    context: ClientContext | None = None,
    engine: EngineName = "auto",
    plan_type: PlanTypePreference = "dot",
    labels: Labels = None,
    shuffle_compression: ShuffleCompression = "auto",
    shuffle_format: ShuffleFormat = "auto",
    shuffle_compression_level: int | None = None,
    distributed: DistributionSettings | bool | None = None,
    n_retries: int | None = None,
    priority: int = 0,
    min_workers: int | None = None,
    max_workers: int | None = None,
    sink_to_single_file: bool | None = None,
    optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    lineage: LineageContext | None = None,
    execute_until: ExecuteUntil = "execute",
) -> list[DirectQuery]:
    """Start several queries, and return at once. The arguments are those of `spawn`.

    Examples
    --------
    >>> import floe, polars as pl
    >>> lf = pl.LazyFrame({"a": [1, 2, 3]})
    >>> with floe.Local(workers=1) as ctx:
    ...     queries = floe.spawn_many([lf, lf.head(1)], dst=floe.TmpDst(), context=ctx)
    ...     [query.await_result().n_rows_total for query in queries]
    [3, 1]
    """
    arguments = _options.passed_on(locals(), "lf")
    return [spawn(one, **arguments) for one in lf]


def spawn_many_blocking(
    lf: Sequence[pl.LazyFrame],
    *,
    dst: str | Path | Dst,
    context: ClientContext | None = None,
    engine: EngineName = "auto",
    plan_type: PlanTypePreference = "dot",
    labels: Labels = None,
    shuffle_compression: ShuffleCompression = "auto",
    shuffle_format: ShuffleFormat = "auto",
    shuffle_compression_level: int | None = None,
    distributed: DistributionSettings | bool | None = None,
    n_retries: int | None = None,
    priority: int = 0,
    min_workers: int | None = None,
    max_workers: int | None = None,
    sink_to_single_file: bool | None = None,
    optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    lineage: LineageContext | None = None,
    execute_until: ExecuteUntil = "execute",
) -> list[QueryResult]:
    """Run several queries at once and block until all results are there. The arguments are those of `spawn`.

    Examples
    --------
    >>> import floe, polars as pl
    >>> lf = pl.LazyFrame({"a": [1, 2, 3]})
    >>> with floe.Local(workers=1) as ctx:
    ...     results = floe.spawn_many_blocking([lf, lf.head(1)], dst=floe.TmpDst(), context=ctx)
    >>> [result.n_rows_total for result in results]
    [3, 1]
    """
    queries = spawn_many(lf, **_options.passed_on(locals(), "lf"))
    return [query.await_result() for query in queries]
