"""Sinks: attached to the plan with every argument, or refused by the argument's name."""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import polars as pl
from polars.io.partition import PartitionBy
from polars.io.plugins import register_io_source

from floe.exceptions import UnsupportedPlanError

#: Callbacks that Polars calls in the writing process: workers cannot call them.
_PYTHON = {
    "metadata": "give the metadata as a dictionary",
    "sinked_paths_callback": "list the files when the query has ended",
    "_sinked_paths_callback": "list the files when the query has ended",
    "credential_provider": "give storage_options, or the context's storage",
    "encryption": "write without it",
}
#: A name without a file number: files are then split only between tasks.
_NO_LIMIT = 2**63


def is_object(target: Any) -> bool:
    """Whether a target is an object of this process to write into."""
    return not isinstance(target, (str, os.PathLike, PartitionBy)) and (
        isinstance(target, io.IOBase) or callable(getattr(target, "write", None))
    )


def python_arguments(arguments: dict[str, Any]) -> list[str]:
    """Arguments that hold what must run in this process."""
    found = []
    for name in _PYTHON:
        value = arguments.get(name)
        known = name in ("metadata", "credential_provider") and not callable(value)
        if value is not None and not known:
            found.append(name)
    return found


def refuse_python(kind: str, arguments: dict[str, Any]) -> None:
    """Refuses arguments that no worker can call, by name."""
    for name in python_arguments(arguments):
        raise UnsupportedPlanError(f"sink_{kind}: {name} runs in this process, which does not write; {_PYTHON[name]}")


def plan(lf: pl.LazyFrame, kind: str, target: Any, arguments: dict[str, Any]) -> pl.LazyFrame:
    """The plan that ends in the sink."""
    if is_object(target):
        raise UnsupportedPlanError(f"sink_{kind} into a {type(target).__name__}: name a file or a directory")
    refuse_python(kind, arguments)
    return _attach(lf, kind, target, arguments)


def _attach(lf: pl.LazyFrame, kind: str, target: Any, arguments: dict[str, Any]) -> pl.LazyFrame:
    arguments = dict(arguments)
    if arguments.get("credential_provider") == "auto":
        # Use those of the context or of the engine's environment.
        arguments["credential_provider"] = None
    if arguments.get("retries", 0) is None:
        del arguments["retries"]
    attached = getattr(lf, f"sink_{kind}")(target, lazy=True, engine="streaming", **arguments)
    assert isinstance(attached, pl.LazyFrame)
    return attached


def as_scan(first: pl.DataFrame, rest: Iterator[pl.DataFrame]) -> pl.LazyFrame:
    """Rows that come as they are asked for, to be read once by Polars of this process."""

    def source(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        yield first
        yield from rest

    return register_io_source(source, schema=first.schema)


def write_here(frames: Iterator[pl.DataFrame], kind: str, target: Any, arguments: dict[str, Any]) -> None:
    """Writes rows by Polars of this process, as they come: for what only this process can write."""
    lf = as_scan(next(frames), frames)
    if arguments.get("retries", 0) is None:
        arguments = {name: value for name, value in arguments.items() if name != "retries"}
    getattr(lf, f"sink_{kind}")(target, engine="streaming", **arguments)


def target_of(uri: str | pathlib.Path | PartitionBy, to_single_file: bool | None) -> str | pathlib.Path | PartitionBy:
    """One file, or a directory of files, as the URI looks, unless told.

    >>> target_of("out/x.parquet", None)
    'out/x.parquet'
    >>> type(target_of("out/x/", None)).__name__
    'PartitionBy'
    """
    if isinstance(uri, PartitionBy):
        if to_single_file:
            raise ValueError("sink_to_single_file: a PartitionBy writes many files")
        return uri
    text = os.fspath(uri)
    last = text.rstrip("/").rsplit("/", 1)[-1]
    directory = text.endswith("/") or "." not in last or os.path.isdir(text)
    if to_single_file is None:
        to_single_file = not directory
    if not to_single_file:
        return PartitionBy(text, approximate_bytes_per_file=_NO_LIMIT)
    if text.endswith("/"):
        raise ValueError(f"sink_to_single_file: {text} names a directory; leave its last / out")
    return uri
