"""`floe.upload`: rows of this machine to where a cluster can read them."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import polars as pl

from floe import _plan

# Substrings of the names of options with credentials, which are kept out of the plan.
SECRETS = ("secret", "access_key", "account_key", "token", "password", "sas", "private_key", "service_account_key", "credential")


def upload(
    source: pl.DataFrame | pl.LazyFrame | str | os.PathLike[str],
    uri: str,
    *,
    storage_options: dict[str, Any] | None = None,
    credential_provider: Any = "auto",
    **arguments: Any,
) -> pl.LazyFrame:
    """Writes rows of this machine as Parquet to an object store, and gives the scan of them.

    `source` is a frame, or the path of Parquet, CSV, IPC or NDJSON files: one file, a directory of Parquet files, or a glob. It is read
    and written by Polars on this machine, piece by piece, so it may be larger than memory. `uri` is the file that is
    written, replacing one that is there; `arguments` are those of `LazyFrame.sink_parquet`.

    Keys among `storage_options` are used for writing only: the scan does not carry them, so that they do not get into the query.
    Where the query runs, they come from `storage=` or `credentials=` of its context.

    >>> floe.upload("data/today.csv", "s3://lake/uploads/today.parquet").remote(ctx).show()  # doctest: +SKIP
    """
    if _plan.is_local(uri):
        raise ValueError(f"uri: {uri} is a file of this machine, which a cluster does not see: name an object store, as s3://bucket/file.parquet")
    if uri.endswith("/") or "*" in uri:
        raise ValueError(f"uri: {uri} is no file: name the Parquet file to write, as {uri.rstrip('/*')}/part.parquet")
    rows = _rows(source)
    # Versions before 1.44 take an engine by its name only; here it is Polars' own that has to run.
    rows.sink_parquet(
        uri, storage_options=storage_options, credential_provider=credential_provider, engine="streaming", **arguments
    )
    plain = {key: value for key, value in (storage_options or {}).items() if not any(part in key.lower() for part in SECRETS)}
    return pl.scan_parquet(uri, storage_options=plain or None)


def _rows(source: pl.DataFrame | pl.LazyFrame | str | os.PathLike[str]) -> pl.LazyFrame:
    if isinstance(source, (pl.DataFrame, pl.LazyFrame)):
        return source.lazy()
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source: a frame or a path, not {type(source).__name__}")
    path = pathlib.Path(source)
    if path.is_dir():
        return pl.scan_parquet(path)
    if "*" not in str(path) and not path.exists():
        raise FileNotFoundError(f"source: {path} is not there")
    scans: dict[tuple[str, ...], Callable[[pathlib.Path], pl.LazyFrame]] = {
        (".parquet", ".pq"): pl.scan_parquet,
        (".csv",): pl.scan_csv,
        (".arrow", ".ipc", ".feather"): pl.scan_ipc,
        (".ndjson", ".jsonl"): pl.scan_ndjson,
    }
    for suffixes, scan in scans.items():
        if path.suffix.lower() in suffixes:
            return scan(path)
    known = ", ".join(suffix for suffixes in scans for suffix in suffixes)
    raise ValueError(f"source: {path} has none of the suffixes {known}: scan it, and give the LazyFrame")
