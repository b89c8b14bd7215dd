"""Settings of a query by the names of Polars Cloud, as fields of `spec.execution`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Union

from floe._warn import warn
from floe.exceptions import IgnoredArgumentWarning

#: Names of labels, or labels with their values.
Labels = Union[Mapping[str, str], list[str], str, None]
EngineName = Literal["auto", "streaming", "in-memory", "gpu"]
PlanTypePreference = Literal["dot", "plain"]
ScalingMode = Literal["auto", "single-node", "distributed"]
ShuffleCompression = Literal["auto", "uncompressed", "lz4", "zstd"]
ShuffleFormat = Literal["auto", "ipc", "parquet"]
SingleWorkerOps = Literal["auto", "allow", "forbid"]
ExecuteUntil = Literal["execute", "physical", "ir"]

BROADCAST_LIMIT = 256 * 1024**2
_COMPRESSIONS = {"auto": "auto", "uncompressed": "none", "lz4": "lz4", "zstd": "zstd"}


def one_of(name: str, value: object, *known: str) -> None:
    """Refuses a word that is not known."""
    if value not in known:
        raise ValueError(f"{name}: {value!r} is none of {', '.join(map(repr, known))}")


def ignored(name: str, why: str) -> None:
    """Tells that an argument means nothing here."""
    warn(f"{name} means nothing to Floe: {why}", IgnoredArgumentWarning)


class DistributionSettings:
    """How a query is cut into stages.

    Parameters
    ----------
    equi_join_broadcast_limit
        Bytes of a side of a join up to which it goes whole to every worker. 0 turns it off.
    partitions_per_worker
        Partitions of a shuffle for each worker. Left out, they are chosen from sizes and memory.
    single_worker_ops : {'auto', 'allow', 'forbid'}
        Nodes without a distributed form: run them on one worker and tell so, run them there, or fail.
    expression_lowering
        Means nothing: expressions are always taken apart where that is exact.
    **kwargs
        `sort_partitioned`, `pre_aggregation` and `planner` of Polars Cloud, which mean nothing here either.

    Examples
    --------
    >>> import floe, polars as pl
    >>> lf = pl.LazyFrame({"k": [1, 2, 1], "v": [1, 2, 3]}).group_by("k").agg(pl.col("v").sum())
    >>> settings = floe.DistributionSettings(partitions_per_worker=2)
    >>> with floe.Local(workers=2) as ctx:
    ...     floe.spawn_blocking(lf, dst=floe.TmpDst(), context=ctx, distributed=settings).total_stages
    2
    """

    def __init__(
        self,
        *,
        equi_join_broadcast_limit: int = BROADCAST_LIMIT,
        partitions_per_worker: int | None = None,
        single_worker_ops: SingleWorkerOps = "auto",
        expression_lowering: bool | None = None,
        **kwargs: Any,
    ) -> None:
        one_of("single_worker_ops", single_worker_ops, "auto", "allow", "forbid")
        if equi_join_broadcast_limit < 0:
            raise ValueError(f"equi_join_broadcast_limit: {equi_join_broadcast_limit} is below 0")
        if partitions_per_worker is not None and partitions_per_worker < 1:
            raise ValueError(f"partitions_per_worker: {partitions_per_worker} is below 1")
        self.equi_join_broadcast_limit = equi_join_broadcast_limit
        self.partitions_per_worker = partitions_per_worker
        self.single_worker_ops = single_worker_ops
        if expression_lowering is False:
            ignored("expression_lowering", "expressions are always taken apart where that is exact")
        for name in ("sort_partitioned", "pre_aggregation"):
            if kwargs.pop(name, True) is not True:
                ignored(name, "sorts and group-bys are always distributed where that is exact")
        if kwargs.pop("planner", "auto") != "auto":
            ignored("planner", "there is one planner")
        if kwargs:
            raise TypeError(f"distributed() got an unexpected keyword argument {next(iter(kwargs))!r}")

    def execution(self) -> dict[str, Any]:
        """The fields of `spec.execution`."""
        fields: dict[str, Any] = {"singleWorkerOps": self.single_worker_ops}
        if self.equi_join_broadcast_limit != BROADCAST_LIMIT:
            fields["broadcastLimit"] = str(self.equi_join_broadcast_limit)
        if self.partitions_per_worker is not None:
            fields["partitionsPerWorker"] = self.partitions_per_worker
        return fields


@dataclasses.dataclass
class Settings:
    """All settings of a query but its plan and where it goes."""

    mode: ScalingMode = "auto"
    n_retries: int | None = None
    priority: int = 0
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    min_workers: int | None = None
    max_workers: int | None = None
    shuffle_compression: ShuffleCompression = "auto"
    distributed: DistributionSettings | None = None

    def __post_init__(self) -> None:
        one_of("shuffle_compression", self.shuffle_compression, *_COMPRESSIONS)
        if self.n_retries is not None and not 0 <= self.n_retries <= 100:
            raise ValueError(f"n_retries: {self.n_retries} is not between 0 and 100")
        for name in ("min_workers", "max_workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is below 1")
        if self.min_workers is not None and self.max_workers is not None and self.min_workers > self.max_workers:
            raise ValueError(f"min_workers ({self.min_workers}) is above max_workers ({self.max_workers})")

    def execution(self) -> dict[str, Any]:
        """The fields of `spec.execution`."""
        fields: dict[str, Any] = {"mode": self.mode}
        if self.n_retries is not None:
            fields["retries"] = self.n_retries
        if self.shuffle_compression != "auto":
            fields["shuffle"] = {"compression": _COMPRESSIONS[self.shuffle_compression]}
        if self.distributed is not None:
            fields |= self.distributed.execution()
        return fields


def check_engine(engine: EngineName) -> None:
    """What tells Polars Cloud which engine its workers prefer."""
    if engine == "gpu":
        raise ValueError("engine: 'gpu' is not there; workers run Polars' streaming engine")
    one_of("engine", engine, "auto", "streaming", "in-memory")
    if engine == "in-memory":
        ignored("engine='in-memory'", "workers run Polars' streaming engine, which gives the same rows")


def check_plan_type(plan_type: PlanTypePreference) -> None:
    """What tells Polars Cloud in which form to keep a plan."""
    one_of("plan_type", plan_type, "dot", "plain")
    if plan_type != "dot":
        ignored("plan_type", "a query has its plan as text (plan()) and as a picture (graph()) in any case")


def check_shuffle(format: ShuffleFormat, level: int | None) -> None:
    """Settings of shuffles that have no counterpart."""
    one_of("shuffle_format", format, "auto", "ipc", "parquet")
    if format == "parquet":
        ignored("shuffle_format='parquet'", "shuffles are Arrow IPC")
    if level is not None:
        ignored("shuffle_compression_level", "the codec's default level is used")


def as_labels(labels: Labels) -> dict[str, str]:
    """Labels with their values, which names alone do not have.

    >>> as_labels("nightly"), as_labels({"user": "ann"})
    ({'nightly': 'true'}, {'user': 'ann'})
    """
    names = [labels] if isinstance(labels, str) else labels or ()
    for name in names:
        if not name or name != name.strip() or len(name.encode()) > 32:
            raise ValueError(f"labels: {name!r} must be 1 to 32 bytes without space around them")
    return dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, "true")


def passed_on(arguments: Mapping[str, Any], *kept: str) -> dict[str, Any]:
    """The arguments of a call (its `locals()` at the start) for the one that it makes, without those that it keeps."""
    return {name: value for name, value in arguments.items() if name not in kept}
