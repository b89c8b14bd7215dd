"""One SQL engine in a process of its own, kept warm: DuckDB, DataFusion or Polars, from a text to a frame in memory.

    python -m bench.peer duckdb|datafusion|polars THREADS TABLES(JSON: name to directory)

Reads one JSON request a line, {"sql": text, "out": path or null, "explain": bool}, and answers with one JSON line. `explain`
plans only. Started by `bench.sql`, which sets POLARS_MAX_THREADS.
"""

from __future__ import annotations

import json
import sys
import time


class DuckDB:
    def __init__(self, threads: int, tables: dict[str, str]):
        import duckdb

        self.version = f"DuckDB {duckdb.__version__}"
        self.db = duckdb.connect(config={"threads": threads})
        for name, uri in tables.items():
            self.db.execute(f"create view {name} as select * from read_parquet('{uri}')")

    def plan(self, sql: str) -> None:
        self.db.sql(f"explain {sql}").fetchall()

    def run(self, sql: str):
        return self.db.sql(sql).to_arrow_table()


class DataFusion:
    def __init__(self, threads: int, tables: dict[str, str]):
        import datafusion

        self.version = f"DataFusion {datafusion.__version__}"
        config = datafusion.SessionConfig().with_target_partitions(threads)
        # Without the statistics of the files its joins are in the order of the text.
        config = config.set("datafusion.execution.collect_statistics", "true")
        runtime = datafusion.RuntimeEnvBuilder().with_disk_manager_os()
        self.session = datafusion.SessionContext(config, runtime)
        for name, uri in tables.items():
            self.session.register_parquet(name, uri.rsplit("/", 1)[0] + "/")

    def plan(self, sql: str) -> None:
        self.session.sql(sql).execution_plan()

    def run(self, sql: str):
        return self.session.sql(sql).to_arrow_table()


class Polars:
    def __init__(self, threads: int, tables: dict[str, str]):
        import polars as pl

        self.version = f"Polars {pl.__version__}"
        self.context = pl.SQLContext({name: pl.scan_parquet(uri) for name, uri in tables.items()})

    def plan(self, sql: str) -> None:
        self.context.execute(sql, eager=False).explain(engine="streaming")

    def run(self, sql: str):
        return self.context.execute(sql, eager=False).collect(engine="streaming")


ENGINES = {"duckdb": DuckDB, "datafusion": DataFusion, "polars": Polars}


def main() -> None:
    import polars as pl

    engine = ENGINES[sys.argv[1]](int(sys.argv[2]), json.loads(sys.argv[3]))
    print(json.dumps({"version": engine.version}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            begin = time.perf_counter()
            if request.get("explain"):
                engine.plan(request["sql"])
                answer = {"seconds": time.perf_counter() - begin, "rows": 0}
            else:
                rows = engine.run(request["sql"])
                seconds = time.perf_counter() - begin
                frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows)
                if request.get("out"):
                    frame.write_ipc(request["out"])
                answer = {"seconds": seconds, "rows": frame.height}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
