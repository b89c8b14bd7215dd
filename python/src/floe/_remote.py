"""`LazyFrame.remote` with a context of Floe, by the names of Polars Cloud."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Literal, overload
from uuid import UUID

import polars as pl
from polars.lazyframe.opt_flags import DEFAULT_QUERY_OPT_FLAGS

from floe import _options, _run
from floe._context import ClientContext, current_context, pick
from floe._dst import ClientDst, TmpDst
from floe._lineage import LineageContext
from floe._options import (
    DistributionSettings,
    EngineName,
    Labels,
    PlanTypePreference,
    ScalingMode,
    Settings,
    ShuffleCompression,
    ShuffleFormat,
    SingleWorkerOps,
)
from floe._query import DirectQuery, PlanType
from floe._remote_sinks import RemoteSinks
from floe._result import QueryResult
from floe._spawn import start


class _Runs(RemoteSinks):
    """What can be done with a query once it is known how it runs."""

    @overload
    def execute(
        self, *, blocking: Literal[True] = ..., optimizations: pl.QueryOptFlags = ..., silent: bool | None = ...
    ) -> QueryResult: ...

    @overload
    def execute(
        self, *, blocking: Literal[False], optimizations: pl.QueryOptFlags = ..., silent: bool | None = ...
    ) -> DirectQuery: ...

    @overload
    def execute(
        self, *, blocking: bool, optimizations: pl.QueryOptFlags = ..., silent: bool | None = ...
    ) -> QueryResult | DirectQuery: ...

    def execute(
        self,
        *,
        blocking: bool = True,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
        silent: bool | None = None,
    ) -> QueryResult | DirectQuery:
        """Start the query; its rows stay with the context.

        Parameters
        ----------
        blocking
            Wait for the `QueryResult`; else return a `DirectQuery` at once.
        optimizations
            Means nothing: Floe optimizes every plan with all passes.
        silent
            Show no progress (`True`), or show it even where nobody seems to look (`False`).
        """
        query = self._ready()._start(TmpDst(), optimizations)
        return query.await_result(silent=silent) if blocking else query

    def await_and_scan(self, *, silent: bool | None = None) -> pl.LazyFrame:
        """Run the query and scan its rows: `execute().lazy()`."""
        return self.execute(silent=silent).lazy()

    def explain(
        self,
        *,
        plan_stage: PlanType = "physical",
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
        silent: bool | None = None,
    ) -> str:
        """Plan the query without running it, and return the plan as text.

        Parameters
        ----------
        plan_stage : {'physical', 'ir'}
            The stages, or the plan as Polars of this process optimizes it.
        optimizations
            Means nothing to the stages: Floe optimizes every plan with all passes.
        silent
            Nothing is shown in any case.
        """
        if silent is False:
            _options.ignored("silent=False", "planning shows no progress")
        return self._ready()._explained(plan_stage, optimizations)

    def show(self, n: int = 10, *, silent: bool | None = None) -> pl.DataFrame:
        """Run the query for its first `n` rows, and return them.

        Examples
        --------
        >>> import floe, polars as pl
        >>> with floe.Local(workers=1) as ctx:
        ...     pl.LazyFrame({"a": range(100)}).remote(ctx).show(2).rows()
        [(0,), (1,)]
        """
        return self._ready()._rows(n, DEFAULT_QUERY_OPT_FLAGS, silent)

    def collect(
        self,
        *,
        ttl: int | timedelta | None = None,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> pl.DataFrame:
        """Run the query and read all of its rows."""
        ready = self._ready()
        if ttl is not None:
            _options.ignored("ttl", "the rows are read at once")
        return ready._rows(None, optimizations, None)

    def collect_batches(
        self,
        *,
        maintain_order: bool = False,
        ttl: int | timedelta | None = None,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> Iterator[pl.DataFrame]:
        """Run the query and read its rows batch by batch, in order in any case."""
        query = self._ready()._start(ClientDst(ttl=ttl, maintain_order=maintain_order), optimizations)
        return _run.batches(query, None)


class LazyFrameRemote(_Runs):
    """What `LazyFrame.remote` gives for a context of Floe.

    Examples
    --------
    >>> import floe, polars as pl
    >>> with floe.Local(workers=1) as ctx:
    ...     pl.LazyFrame({"a": [1, 2, 3]}).remote(ctx, priority=1).labels("docs").collect().height
    3
    """

    def __init__(
        self,
        lf: pl.LazyFrame,
        context: ClientContext | None = None,
        plan_type: PlanTypePreference = "dot",
        n_retries: int | None = None,
        priority: int = 0,
        engine: EngineName = "auto",
        scaling_mode: ScalingMode = "auto",
    ) -> None:
        _options.check_engine(engine)
        _options.check_plan_type(plan_type)
        _options.one_of("scaling_mode", scaling_mode, "auto", "single-node", "distributed")
        self.lf, self.context, self.scaling_mode = lf, context, scaling_mode
        self._engine = engine
        self._common: dict[str, Any] = {"n_retries": n_retries, "priority": priority}
        self._labels: dict[str, str] = {}
        self._lineage: dict[str, str] = {}

    def _with(self, **settings: Any) -> ExecuteRemote:
        labels = self._labels | self._lineage
        return ExecuteRemote(self.lf, self.context, Settings(labels=labels, **self._common, **settings))

    def _ready(self) -> ExecuteRemote:
        return self._with(mode=self.scaling_mode)

    def distributed(
        self,
        *,
        shuffle_compression: ShuffleCompression = "auto",
        shuffle_format: ShuffleFormat = "auto",
        shuffle_compression_level: int | None = None,
        equi_join_broadcast_limit: int = _options.BROADCAST_LIMIT,
        partitions_per_worker: int | None = None,
        single_worker_ops: SingleWorkerOps = "auto",
        expression_lowering: bool | None = None,
        min_workers: int | None = None,
        max_workers: int | None = None,
        **kwargs: Any,
    ) -> ExecuteRemote:
        """Cut the query into stages, whatever its size.

        Parameters
        ----------
        shuffle_compression : {'auto', 'lz4', 'zstd', 'uncompressed'}
            How what goes from worker to worker is compressed.
        shuffle_format, shuffle_compression_level
            Mean nothing: shuffles are Arrow IPC, with the codec's default level.
        min_workers
            Start with so many workers. Only for queries with pods of their own.
        max_workers
            Workers at most. Only for queries with pods of their own.
        equi_join_broadcast_limit, partitions_per_worker, single_worker_ops, expression_lowering, **kwargs
            As in `DistributionSettings`.
        """
        if self._engine == "in-memory":
            raise ValueError("engine: 'in-memory' is not for distributed queries")
        _options.check_shuffle(shuffle_format, shuffle_compression_level)
        return self._with(
            mode="distributed",
            shuffle_compression=shuffle_compression,
            min_workers=min_workers,
            max_workers=max_workers,
            distributed=DistributionSettings(
                equi_join_broadcast_limit=equi_join_broadcast_limit,
                partitions_per_worker=partitions_per_worker,
                single_worker_ops=single_worker_ops,
                expression_lowering=expression_lowering,
                **kwargs,
            ),
        )

    def single_node(self) -> ExecuteRemote:
        """Run the query as one task on one worker."""
        return self._with(mode="single-node")

    def labels(self, labels: Labels) -> LazyFrameRemote:
        """Label the query, in its traces and logs, and where a context shares by a label (`fair_share`): names, or a mapping."""
        self._labels = _options.as_labels(labels)
        return self

    def with_lineage(
        self,
        *,
        job_namespace: str,
        job_name: str,
        parent_run_id: UUID | str | None = None,
        parent_job_namespace: str | None = None,
        parent_job_name: str | None = None,
    ) -> LazyFrameRemote:
        """Say which job the query belongs to: as labels `lineage.*` in its traces and logs."""
        run = UUID(parent_run_id) if isinstance(parent_run_id, str) else parent_run_id
        lineage = LineageContext(job_namespace, job_name, run, parent_job_namespace, parent_job_name)
        self._lineage = lineage.labels()
        return self


class ExecuteRemote(_Runs):
    """A query of which it is known how it runs.

    Examples
    --------
    >>> import floe, polars as pl
    >>> lf = pl.LazyFrame({"k": [1, 2, 1]}).group_by("k").agg(pl.len().alias("n")).sort("k")
    >>> with floe.Local(workers=2) as ctx:
    ...     distributed = lf.remote(ctx).distributed(shuffle_compression="zstd")
    ...     distributed.show().rows()
    ...     distributed.execute().total_stages > 1
    [(1, 2), (2, 1)]
    True
    """

    def __init__(self, lf: pl.LazyFrame, context: ClientContext | None, settings: Settings) -> None:
        self.lf, self.context = lf, context
        self._settings = settings

    def _ready(self) -> ExecuteRemote:
        return copy.copy(self)

    def _rows(self, n: int | None, optimizations: pl.QueryOptFlags, silent: bool | None) -> pl.DataFrame:
        """All rows, or the first `n`."""
        lf = self.lf if n is None else self.lf.limit(n)
        return _run.collect(pick(self.context), lf, self._settings, optimizations, silent)

    def _start(self, dst: Any, optimizations: pl.QueryOptFlags, sink_to_single_file: bool | None = None) -> DirectQuery:
        return start(self.lf, dst, self.context, self._settings, optimizations, sink_to_single_file)

    def _explained(self, plan_stage: PlanType, optimizations: pl.QueryOptFlags) -> str:
        if plan_stage == "ir":
            return self.lf.explain(engine="streaming", optimizations=optimizations)
        _options.one_of("plan_stage", plan_stage, "physical", "ir")
        return pick(self.context)._explain(_run.request(self.lf, self._settings, optimizations), "text")


def install() -> None:
    """Lets `LazyFrame.remote` take contexts of Floe. For any other, it stays what it was."""
    polars_own: Callable[..., Any] = pl.LazyFrame.remote
    if hasattr(polars_own, "_floe"):
        return

    @functools.wraps(polars_own)
    def remote(self: pl.LazyFrame, context: Any = None, **settings: Any) -> Any:
        if isinstance(context, ClientContext) or (context is None and current_context() is not None):
            return LazyFrameRemote(self, context, **settings)
        return polars_own(self, context, **settings)

    remote._floe = True  # type: ignore[attr-defined]
    pl.LazyFrame.remote = remote  # type: ignore[method-assign]
