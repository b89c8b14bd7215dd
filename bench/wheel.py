"""Single-process Polars, Python wheel, kept warm: reads one JSON request a line, answers with one JSON line.

A request {"plan": path of a serialized LazyFrame, "out": path or null} is run and timed from the bytes of the plan to the
frame in memory; with `out` the frame is then written there as IPC. Started by `bench.run`, which sets POLARS_MAX_THREADS.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time

import polars as pl


def main() -> None:
    engine = sys.argv[1]
    # Threads and lazily loaded parts come up before the first measured query.
    pl.LazyFrame({"a": [1, 2, 3]}).group_by("a").len().collect(engine=engine)
    print(json.dumps({"version": pl.__version__, "threads": pl.thread_pool_size()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            plan = pathlib.Path(request["plan"]).read_bytes()
            begin = time.perf_counter()
            frame = pl.LazyFrame.deserialize(plan).collect(engine=engine)
            seconds = time.perf_counter() - begin
            if request.get("out"):
                frame.write_ipc(request["out"])
            answer = {"seconds": seconds, "rows": frame.height}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
