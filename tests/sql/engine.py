"""A warm Floe that SQL is sent to as a client sends it: jobs with `spec.plan.sql` and tables, over HTTP."""

from __future__ import annotations

import polars as pl

from bench.server import Floe

WORKERS = 3
# Small tables would go whole to every task: with these the joins by hash are seen, too.
BY_HASH = {"broadcastLimit": "0", "partitionsPerWorker": 2}
# The ways in which every case of the SQL suite is run: by name, the mode and what goes with it.
WAYS = {"single-node": ("single-node", {}), "distributed": ("distributed", {}), "by-hash": ("distributed", BY_HASH)}


class Engine:
    def __init__(self, workers: int = WORKERS):
        self.server = Floe("sql", workers=workers, threads=1, mode="auto")

    def close(self) -> None:
        self.server.close()

    def run(
        self,
        query: str,
        tables: dict[str, str],
        *,
        mode: str = "distributed",
        params: dict | None = None,
        views: dict[str, str] | None = None,
        execution: dict | None = None,
        workers: int | None = None,
        storage: dict | None = None,
    ) -> tuple[pl.DataFrame, dict]:
        """The result and the summary of a query over Parquet files. Raises RuntimeError with class and message."""
        spec = {
            "plan": {"sql": query},
            "params": params or {},
            "views": views or {},
            "tables": {name: {"uri": uri, "format": "parquet"} for name, uri in tables.items()},
            "compute": {"workers": workers or self.server.workers, "cpus": 1},
            "execution": {"mode": mode} | (execution or {}),
        } | ({"storage": storage} if storage else {})
        frame, summary, path = self.server.query("sql", spec)
        self.server.request("DELETE", path).read()
        return frame, summary
