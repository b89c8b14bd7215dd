"""A LazyFrame as the bytes that the engine reads, and what of it cannot travel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import polars as pl
from polars.lazyframe.opt_flags import DEFAULT_QUERY_OPT_FLAGS

from floe import _msgpack
from floe._warn import warn
from floe.exceptions import IgnoredArgumentWarning, UnsupportedPlanError

#: Before the document: a word, the version of the format, the hash of its schema.
HEADER_BYTES = len(b"DSL_VERSION") + 4 + 64
#: `{"payload": {"Iceberg": …` in MessagePack: a sink into a table that the client's process has to commit.
_ICEBERG = b"\xa7payload\x81\xa7Iceberg"


def node_name(lf: pl.LazyFrame) -> str:
    """The outermost node of a plan."""
    ldf: Any = lf._ldf
    return str(ldf._node_name())


def ends_in_sinks(lf: pl.LazyFrame) -> bool:
    """Whether the plan writes its rows itself."""
    return node_name(lf).startswith("Sink")


def serialize(lf: pl.LazyFrame) -> bytes:
    """The plan's bytes. What Python cannot pickle is a function, which no worker could run either."""
    try:
        plan = lf.serialize()
    except pl.exceptions.ComputeError as error:
        raise UnsupportedPlanError(
            f"the plan holds Python code, which a distributed query does not run ({_last(error)}); write it with Polars "
            "expressions, or apply it to the collected result"
        ) from error
    if ends_in_sinks(lf) and _ICEBERG in plan:
        raise UnsupportedPlanError(
            "sink_iceberg: the engine writes no Iceberg tables; pl.scan_arrow_c_stream(lf.collect_batches(engine=engine))"
            ".sink_iceberg(…) computes by the engine and writes from this process"
        )
    return plan


def check_optimizations(optimizations: pl.QueryOptFlags) -> None:
    """Floe optimizes every plan by itself: flags change how a result comes about, never the result."""
    flags = optimizations._pyoptflags
    if flags.eager or optimizations is DEFAULT_QUERY_OPT_FLAGS:
        return
    # Engines set these for themselves.
    passes = [name for name in dir(pl.QueryOptFlags) if isinstance(getattr(pl.QueryOptFlags, name), property)]
    default = pl.QueryOptFlags()
    changed = [name for name in passes if getattr(optimizations, name) != getattr(default, name)]
    if changed:
        text = (
            f"optimizations: Floe optimizes every plan with all of its passes, whatever is said of {', '.join(changed)}"
        )
        warn(text, IgnoredArgumentWarning)


def local_paths(plan: bytes) -> Iterator[tuple[str, str]]:
    """Files of this machine that a plan names: what does (`reads`, `writes`), and the path."""
    yield from _find(_msgpack.read(plan, HEADER_BYTES))


def _find(node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, list):
        for item in node:
            yield from _find(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Paths" and isinstance(value, list):
                yield from (("reads", path) for path in map(_path, value) if path and is_local(path))
            elif key in ("target", "base_path") and "unified_sink_args" in node:
                path = _path(value)
                if path and is_local(path):
                    yield "writes", path
            else:
                yield from _find(value)


def _path(node: Any) -> str | None:
    """A path, which stands by itself or wrapped."""
    while isinstance(node, dict) and len(node) == 1:
        node = next(iter(node.values()))
    return node if isinstance(node, str) else None


def is_local(path: str | os.PathLike[str]) -> bool:
    """Whether a path means this machine.

    >>> is_local("data/x.parquet"), is_local("file:///x"), is_local("s3://bucket/x")
    (True, True, False)
    """
    text = os.fspath(path)
    return "://" not in text or text.startswith("file://")


def _last(error: Exception) -> str:
    return str(error).strip().rsplit("error: ", 1)[-1].splitlines()[0]
