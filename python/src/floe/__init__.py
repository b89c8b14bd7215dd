"""Floe: one Polars query over many processes, on this machine or on your own Kubernetes.

>>> import floe, polars as pl
>>> with floe.Local(workers=2) as ctx:
...     lf = pl.LazyFrame({"k": ["a", "b", "a"], "v": [1, 2, 3]})
...     lf.group_by("k").agg(pl.col("v").sum()).sort("k").remote(ctx).show().rows()
[('a', 4), ('b', 2)]
"""

from typing import TYPE_CHECKING

from floe import _absent, exceptions
from floe._compute import ComputeContext
from floe._compute_status import ComputeContextStatus
from floe._context import ClientContext, set_compute_context, show_versions
from floe._dst import CallbackDst, ClientDst, CsvDst, DeltaDst, Dst, IcebergDst, IpcDst, NdjsonDst, ParquetDst, TmpDst
from floe._engine import Engine, collect
from floe._kubernetes import Kubernetes
from floe._lineage import LineageContext
from floe._local import Local
from floe._options import DistributionSettings
from floe._partitions import partitions
from floe._query import DirectQuery, ProxyQuery
from floe._remote import ExecuteRemote, LazyFrameRemote, install
from floe._report import QueryStatus
from floe._result import QueryResult, StageStatistics
from floe._spawn import spawn, spawn_blocking, spawn_many, spawn_many_blocking
from floe._sql import sql
from floe._upload import upload

__version__ = "0.1.0"

__all__ = [
    "CallbackDst",
    "ClientContext",
    "ClientDst",
    "ComputeContext",
    "ComputeContextStatus",
    "CsvDst",
    "DeltaDst",
    "DirectQuery",
    "DistributionSettings",
    "Dst",
    "Engine",
    "ExecuteRemote",
    "IcebergDst",
    "IpcDst",
    "Kubernetes",
    "LazyFrameRemote",
    "LineageContext",
    "Local",
    "NdjsonDst",
    "ParquetDst",
    "ProxyQuery",
    "QueryResult",
    "QueryStatus",
    "StageStatistics",
    "TmpDst",
    "__version__",
    "collect",
    "exceptions",
    "partitions",
    "set_compute_context",
    "show_versions",
    "spawn",
    "spawn_blocking",
    "spawn_many",
    "spawn_many_blocking",
    "sql",
    "upload",
]

if not TYPE_CHECKING:  # Type checkers would take any name for one that is there.

    def __getattr__(name: str) -> object:
        # Tell users of Polars Cloud what to use instead.
        raise _absent.refuse(name)


install()
