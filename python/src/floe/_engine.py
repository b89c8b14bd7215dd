"""`floe.Engine`: Polars' own pluggable engine, with the queries run by a context."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import polars as pl
from polars.lazyframe.in_process import InProcessQuery
from polars.lazyframe.opt_flags import DEFAULT_QUERY_OPT_FLAGS

from floe import _run, _sinks
from floe._batches import Batches
from floe._context import ClientContext, pick
from floe._engine_sinks import EngineSinks
from floe._options import DistributionSettings, Labels, ScalingMode, Settings, ShuffleCompression, as_labels, one_of
from floe._query import DirectQuery
from floe._request import Request
from floe._result import QueryResult
from floe.exceptions import FloeError, QueryCancelledError, UnsupportedPlanError

if TYPE_CHECKING:
    from polars.lazyframe.engine import Engine as _Base
else:
    try:
        from polars.lazyframe.engine import Engine as _Base
    except ImportError:  # Polars 1.43 has no engines to plug in; `floe.collect` does the same there.
        _Base = object

T = TypeVar("T")


class Engine(EngineSinks, _Base):
    """Runs queries on a context: an engine of Polars like `"streaming"`.

    Parameters
    ----------
    context
        Where queries run: `floe.Local` or `floe.Kubernetes`. Left out, the one of `floe.set_compute_context`.
    scaling_mode : {'auto', 'single-node', 'distributed'}
        `'auto'` cuts a query into stages where that gains.
    n_retries
        How often a task may be tried again after failures that are not the query's own. Left out, 3.
    priority
        Which of several waiting queries goes first: the highest.
    labels
        Labels that queries have in traces and logs.
    silent
        Show no progress (`True`), or show it even where nobody seems to look (`False`).
    min_workers, max_workers, shuffle_compression, **distributed
        As in `LazyFrameRemote.distributed`.

    Examples
    --------
    >>> import floe, polars as pl
    >>> ctx = floe.Local(workers=2)
    >>> engine = floe.Engine(ctx)
    >>> lf = pl.LazyFrame({"k": ["a", "b", "a"], "v": [1, 2, 3]})
    >>> engine.collect(lf.group_by("k").agg(pl.col("v").sum()).sort("k")).rows()
    [('a', 4), ('b', 2)]
    >>> ctx.close()
    """

    def __init__(
        self,
        context: ClientContext | None = None,
        *,
        scaling_mode: ScalingMode = "auto",
        n_retries: int | None = None,
        priority: int = 0,
        labels: Labels = None,
        silent: bool | None = None,
        min_workers: int | None = None,
        max_workers: int | None = None,
        shuffle_compression: ShuffleCompression = "auto",
        **distributed: Any,
    ) -> None:
        one_of("scaling_mode", scaling_mode, "auto", "single-node", "distributed")
        if scaling_mode == "single-node" and distributed:
            raise ValueError(f"{', '.join(sorted(distributed))}: not with scaling_mode='single-node'")
        if context is not None and not isinstance(context, ClientContext):
            raise TypeError(f"context: {type(context).__name__} is no context of Floe, such as floe.Local()")
        self.context = context
        self._silent = silent
        self._settings = Settings(
            mode=scaling_mode,
            n_retries=n_retries,
            priority=priority,
            labels=as_labels(labels),
            min_workers=min_workers,
            max_workers=max_workers,
            shuffle_compression=shuffle_compression,
            distributed=DistributionSettings(**distributed) if distributed else None,
        )

    @property
    def name(self) -> str:
        """Engine identifier."""
        return "floe"

    @property
    def plan_engine(self) -> str:
        """The engine by whose plans `explain` shows a query: that of the workers."""
        return "streaming"

    def __repr__(self) -> str:
        return f"Engine({self.context!r})"

    def _request(self, lf: pl.LazyFrame, optimizations: pl.QueryOptFlags, *, keep: bool = False) -> Request:
        return _run.request(lf, self._settings, optimizations, keep=keep)

    def _start(self, lf: pl.LazyFrame, asked: Request) -> DirectQuery:
        return _run.start(pick(self.context), lf, asked)

    def _rows(self, lf: pl.LazyFrame, optimizations: pl.QueryOptFlags, silent: bool | None) -> pl.DataFrame:
        asked = self._request(lf, optimizations)
        return _run.rows_of(self._start(lf, asked), asked, silent)

    def collect(  # type: ignore[override]
        self,
        lf: pl.LazyFrame,
        *,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
        background: bool = False,
        post_opt_callback: object = None,
    ) -> pl.DataFrame | InProcessQuery:
        """Run `lf` and read its rows. With `background`, return a handle at once."""
        if post_opt_callback is not None:
            raise UnsupportedPlanError("post_opt_callback: the plan is optimized by the engine's own process")
        if background:
            asked = self._request(lf, optimizations)
            return BackgroundQuery(self._start(lf, asked), asked)
        return self._rows(lf, optimizations, self._silent)

    def execute(self, lf: pl.LazyFrame, *, optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS) -> QueryResult:
        """Run `lf` and leave its rows where they are: with the context."""
        return self._start(lf, self._request(lf, optimizations, keep=True)).await_result(silent=self._silent)

    def collect_async(
        self, lf: pl.LazyFrame, *, optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS, gevent: bool = False
    ) -> Any:
        """Run `lf` and give something to await its rows by. Cancelling that cancels the query."""
        asked = self._request(lf, optimizations)
        query = self._start(lf, asked)
        return _later(lambda: _run.rows_of(query, asked, silent=True), query.cancel, gevent=gevent)

    def collect_batches(  # type: ignore[override]
        self,
        lf: pl.LazyFrame,
        *,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
        maintain_order: bool = True,
        chunk_size: int | None = None,
        lazy: bool = False,
    ) -> Batches:
        """Run `lf` and give its rows batch by batch, in order in any case. With `lazy`, start at the first batch."""
        asked = self._request(lf, optimizations)
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size: {chunk_size} is below 1")
        query = None if lazy else self._start(lf, asked)
        return Batches(
            lambda: _run.batches(query or self._start(lf, asked), chunk_size, self._silent),
            None if query is None else query._delete,
        )

    def collect_all(
        self, lfs: Iterable[pl.LazyFrame], *, optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS
    ) -> list[pl.DataFrame]:
        """Run several queries at once and read the rows of each."""
        started = self._start_all(lfs, optimizations)
        return self._all_rows(started, self._silent)

    def _start_all(
        self, lfs: Iterable[pl.LazyFrame], optimizations: pl.QueryOptFlags
    ) -> list[tuple[DirectQuery, Request]]:
        # All plans are looked at before the first query starts.
        asked = [(lf, self._request(lf, optimizations)) for lf in lfs]
        return [(self._start(lf, request), request) for lf, request in asked]

    def _all_rows(self, started: list[tuple[DirectQuery, Request]], silent: bool | None) -> list[pl.DataFrame]:
        try:
            return [_run.rows_of(query, asked, silent) for query, asked in started]
        except BaseException:
            for query, _ in started:
                with contextlib.suppress(FloeError):
                    query._delete()
            raise

    def collect_all_async(
        self,
        lfs: Iterable[pl.LazyFrame],
        *,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
        gevent: bool = False,
    ) -> Any:
        """Run several queries at once and give something to await the rows of all by."""
        started = self._start_all(lfs, optimizations)

        def cancel() -> None:
            for query, _ in started:
                query.cancel()

        return _later(lambda: self._all_rows(started, silent=True), cancel, gevent=gevent)

    def _sink(self, lf: pl.LazyFrame, kind: str, path: Any, arguments: dict[str, Any]) -> Any:
        optimizations = arguments.pop("optimizations", DEFAULT_QUERY_OPT_FLAGS)
        # 1.44 leaves it to the engine to give the plan back.
        if arguments.pop("lazy", False):
            return _sinks._attach(lf, kind, path, arguments)
        near = pick(self.context).shares_files and _sinks.python_arguments(arguments)
        if _sinks.is_object(path) or near:
            query = self._start(lf, self._request(lf, optimizations))
            _sinks.write_here(_run.batches(query, None, self._silent), kind, path, arguments)
            return None
        self._rows(_sinks.plan(lf, kind, path, arguments), optimizations, self._silent)
        return None

    def sink_batches(
        self,
        lf: pl.LazyFrame,
        function: Callable[[pl.DataFrame], bool | None],
        *,
        chunk_size: int | None = None,
        maintain_order: bool = True,
        lazy: bool = False,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> Any:
        """See :meth:`polars.LazyFrame.sink_batches`. `function` is called in this process, with rows in order."""
        if lazy:
            return lf.sink_batches(
                function, chunk_size=chunk_size, maintain_order=maintain_order, lazy=True, engine="streaming"
            )
        for frame in self.collect_batches(lf, optimizations=optimizations, chunk_size=chunk_size):
            if function(frame):
                return None
        return None


class BackgroundQuery(InProcessQuery):
    """A query that runs while this process does something else."""

    def __init__(self, query: DirectQuery, asked: Request) -> None:
        self._query = query
        self._value: pl.DataFrame | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(asked,), name="floe-background", daemon=True)
        self._thread.start()

    def _run(self, asked: Request) -> None:
        try:
            self._value = _run.rows_of(self._query, asked, silent=True)
        except BaseException as error:  # noqa: BLE001 - told to who fetches
            self._error = error

    def cancel(self) -> None:
        """Cancel the query at earliest convenience."""
        self._query.cancel()

    def fetch(self) -> pl.DataFrame | None:
        """The rows, or nothing while the query runs."""
        return None if self._thread.is_alive() else self.fetch_blocking()

    def fetch_blocking(self) -> pl.DataFrame:
        """Wait for the rows."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._value is not None
        return self._value


def _later(work: Callable[[], T], cancel: Callable[[], None], *, gevent: bool) -> Any:
    """The result of `work`, to be awaited in asyncio, or got in gevent."""
    if gevent:
        return _gevent(work)
    return _Awaited(work, cancel)


class _Awaited(Awaitable[T], Generic[T]):
    def __init__(self, work: Callable[[], T], cancel: Callable[[], None]) -> None:
        self.loop = asyncio.get_event_loop()
        self.result: asyncio.Future[T] = self.loop.create_future()
        self._work = work
        self.result.add_done_callback(lambda future: cancel() if future.cancelled() else None)
        threading.Thread(target=self._run, name="floe-async", daemon=True).start()

    def _run(self) -> None:
        value: T | None = None
        failed: BaseException | None = None
        try:
            value = self._work()
        except BaseException as error:  # noqa: BLE001 - told to who awaits
            failed = error

        def tell() -> None:
            if self.result.cancelled():
                return
            if failed is not None:
                self.result.set_exception(failed)
            else:
                self.result.set_result(value)  # type: ignore[arg-type]

        try:
            self.loop.call_soon_threadsafe(tell)
        except RuntimeError as error:
            # The loop is closed: nobody awaits any more.
            if failed is not None and not isinstance(failed, QueryCancelledError):
                raise failed from error

    def __await__(self) -> Generator[Any, None, T]:
        return self.result.__await__()


def _gevent(work: Callable[[], T]) -> Any:
    from polars._utils.async_ import _GeventDataFrameResult

    result: Any = _GeventDataFrameResult()

    def run() -> None:
        try:
            result._value = work()
        except Exception as error:  # noqa: BLE001 - told to who gets it
            result._value = error
        result._watcher.send()

    threading.Thread(target=run, name="floe-gevent", daemon=True).start()
    return result


def collect(
    lf: pl.LazyFrame,
    context: ClientContext | None = None,
    *,
    optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    **settings: Any,
) -> pl.DataFrame:
    """Run a query on a context and read its rows: `lf.collect(engine=floe.Engine(context))` for every version of Polars.

    `settings` are those of `floe.Engine`.

    Examples
    --------
    >>> import floe, polars as pl
    >>> with floe.Local(workers=1) as ctx:
    ...     floe.collect(pl.LazyFrame({"a": [1, 2, 3]}).sum(), ctx).item()
    6
    """
    frame = Engine(context, **settings).collect(lf, optimizations=optimizations)
    assert isinstance(frame, pl.DataFrame)
    return frame
