"""What the Python tests and benchmarks share: the oracle (single-node Polars), reading results, comparing them."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import polars as pl
import polars.selectors as cs
import yaml
from polars.testing import assert_frame_equal

REPO = pathlib.Path(__file__).parents[1]

# Sums of floats depend on the order of their terms, which distribution changes.
RELATIVE, ABSOLUTE = 1e-9, 1e-9


def binary(name: str) -> str:
    """The path of `floe` or `floe-runner`; the Makefile puts the build directory on PATH."""
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not on PATH: run the tests by `make test`, or put target/release there")
    return found


def load(path: str | pathlib.Path) -> dict[str, Any]:
    return yaml.safe_load(pathlib.Path(path).read_text())


def storage_options(spec: dict[str, Any], credentials: dict[str, str] | None = None) -> dict[str, str] | None:
    storage = spec.get("storage")
    if storage is None:
        return None
    options = dict(storage.get("options", {}))
    if "endpoint" in storage:
        options["aws_endpoint_url"] = storage["endpoint"]
    if "region" in storage:
        options["aws_region"] = storage["region"]
    return options | (credentials or {})


def single_node(query: dict[str, Any], credentials: dict[str, str] | None = None) -> pl.DataFrame:
    """The query of a `DistributedQuery` object by single-node Polars, Python wheel: the oracle."""
    spec = query["spec"]
    options = storage_options(spec, credentials)

    def scan(name: str) -> pl.LazyFrame:
        table = spec["tables"][name]
        format = table.get("format") or pathlib.Path(table["uri"]).suffix.lstrip(".")
        kwargs = dict(table.get("options", {}))
        if table["uri"].startswith("s3://"):
            kwargs["storage_options"] = options
        return getattr(pl, f"scan_{format}")(table["uri"], **kwargs)

    plan = spec["plan"]
    if "dsl" in plan:
        return pl.LazyFrame.deserialize(plan["dsl"]["uri"]).collect()
    if "sql" in plan:
        text = plan["sql"]
        for name, value in spec.get("params", {}).items():
            text = text.replace(f"${name}", repr(value))
        frames = {name: scan(name) for name in spec["tables"]}
        # In the order of the file, views come after those that they use.
        for name, view in spec.get("views", {}).items():
            frames[name] = pl.SQLContext(frames, eager=False).execute(view)
        return pl.SQLContext(frames, eager=False).execute(text).collect()
    names = {"pl": pl, "scan": scan, "params": spec.get("params", {})}
    exec(compile(plan["python"]["script"], query["metadata"]["name"], "exec"), names)
    return names["result"].lazy().collect()


def read_sink(sink: dict[str, Any], credentials: dict[str, str] | None = None, storage=None) -> pl.DataFrame:
    """What a query's sink holds, files in name order (which is row order)."""
    root, format = sink["uri"].rstrip("/"), sink["format"]
    suffix = {"parquet": "parquet", "csv": "csv", "ipc": "arrow", "ndjson": "ndjson"}[format]
    kwargs: dict[str, Any] = {}
    if root.startswith("s3://"):
        kwargs["storage_options"] = storage_options({"storage": storage or {}}, credentials)
    else:
        suffixes = {path.suffix.lstrip(".") for path in pathlib.Path(root).rglob("*") if path.is_file()}
        if len(suffixes) == 1:
            suffix = suffixes.pop()
    if sink.get("partitionBy"):
        kwargs["hive_partitioning"] = True
        if format not in ("parquet", "ipc"):
            return _hive_text(root, suffix, format)
    if format == "csv":
        kwargs["try_parse_dates"] = True
    return getattr(pl, f"scan_{format}")(f"{root}/**/*.{suffix}", **kwargs).collect()


def _hive_text(root: str, suffix: str, format: str) -> pl.DataFrame:
    frames = []
    for path in sorted(pathlib.Path(root).rglob(f"*.{suffix}")):
        frame = pl.read_csv(path, try_parse_dates=True) if format == "csv" else pl.read_ndjson(path)
        for part in path.relative_to(root).parts[:-1]:
            key, _, value = part.partition("=")
            frame = frame.with_columns(pl.lit(value).alias(key))
        frames.append(frame)
    return pl.concat(frames)


def assert_same(got: pl.DataFrame, want: pl.DataFrame, *, ordered: bool = True, columns_ordered: bool = True) -> None:
    """Values, dtypes, column order, and row order unless the plan promises none."""
    if not ordered:
        keys = want.select(~cs.float()).columns or want.columns
        got, want = got.sort(keys), want.sort(keys)
    assert_frame_equal(
        got, want, rel_tol=RELATIVE, abs_tol=ABSOLUTE, check_column_order=columns_ordered, categorical_as_str=True
    )
