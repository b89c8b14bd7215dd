"""The 22 PDS-H queries: Polars scripts (`qNN.py`), the SQL texts they follow (`sql/`), and a loader for both.

PDS-H is derived from TPC-H with its validation parameters; its results are not TPC-H results.
A script is what `spec.plan.python.script` takes: it has `pl`, `scan(table)` and `params`, and assigns `result`.
"""

from __future__ import annotations

import pathlib

import polars as pl

HERE = pathlib.Path(__file__).parent
QUERIES = list(range(1, 23))
TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]


def script(number: int) -> str:
    return (HERE / f"q{number:02}.py").read_text()


def sql(number: int, scale_factor: float = 1.0) -> str:
    return (HERE / "sql" / f"q{number:02}.sql").read_text().replace("{scale_factor}", repr(scale_factor))


def tables_of(number: int) -> list[str]:
    text = script(number)
    return [table for table in TABLES if f'scan("{table}")' in text]


def uri(data: str, table: str) -> str:
    return f"{str(data).rstrip('/')}/{table}/*.parquet"


def query(number: int, data: str, scale_factor: float = 1.0, **scan_options) -> pl.LazyFrame:
    """The query as a LazyFrame over the Parquet files under `data`, for the Polars that is imported."""
    names = {
        "pl": pl,
        "scan": lambda table: pl.scan_parquet(uri(data, table), **scan_options),
        "params": {"scale_factor": scale_factor},
    }
    exec(compile(script(number), f"q{number:02}.py", "exec"), names)
    return names["result"]


def spec(
    number: int,
    data: str,
    *,
    scale_factor: float = 1.0,
    workers: int = 2,
    cpus: int = 1,
    memory: str | None = None,
    mode: str | None = None,
    sink: dict | None = None,
    storage: dict | None = None,
    execution: dict | None = None,
) -> dict:
    """The query as a `DistributedQuery` object over the same files."""
    compute: dict = {"workers": workers, "cpus": cpus}
    if memory is not None:
        compute["memory"] = memory
    body: dict = {
        "plan": {"python": {"script": script(number)}},
        "tables": {t: {"format": "parquet", "uri": uri(data, t)} for t in tables_of(number)},
        "compute": compute,
    }
    if 'params.get("scale_factor"' in script(number):
        body["params"] = {"scale_factor": scale_factor}
    execution = dict(execution or {})
    if mode is not None:
        execution["mode"] = mode
    if execution:
        body["execution"] = execution
    if sink is not None:
        body["sink"] = sink
    if storage is not None:
        body["storage"] = storage
    return {
        "apiVersion": "floe.dev/v1alpha1",
        "kind": "DistributedQuery",
        "metadata": {"name": f"pdsh-q{number}"},
        "spec": body,
    }
