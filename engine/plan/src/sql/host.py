"""Resolves SQL texts by Polars' own SQL, over empty frames, and writes out the plans. So it does with nodes of clients'
plans that the engine cannot read.

Started by the engine as `python -I -B host.py <directory>`, in a process group of its own with an empty environment. It
imports Polars once and then makes a copy of itself for each text (fork), so that a text costs milliseconds and leaves
nothing behind. Requests and answers are JSON after their length in eight hexadecimal digits. A text takes two requests:
how its tables are scanned (answered by bytes of plans without credentials), then the text with the tables' schemas, which
the engine has read by then. From there on the copy opens no files any more. What it is sent to resolve is not trusted; it
holds no data and no secrets.
"""

import base64
import io
import json
import os
import sys

sys.path.insert(0, sys.argv[1])
# The engine gives up sooner; this is for when the engine is gone.
CPU_SECONDS = 120


def answer(value):
    body = json.dumps(value, separators=(",", ":")).encode()
    body = len(body).to_bytes(8, "little") + body
    while body:
        body = body[os.write(1, body) :]


def read(length):
    parts = []
    while length:
        part = os.read(0, min(length, 1 << 20))
        if not part:
            return None
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def request():
    """The next request; None when the engine is gone."""
    length = read(8)
    body = read(int(length, 16)) if length else None
    return None if body is None else json.loads(body)


def die_with_parent():
    try:
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except Exception:
        pass  # Not Linux: the engine's own kill of the process group remains.


def limit(name, value):
    import resource

    resource.setrlimit(getattr(resource, name), (value, value))


def limit_memory(extra_bytes):
    """Caps what may be allocated on top of what Python and Polars hold already."""
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit("RLIMIT_AS", mapped + extra_bytes)
    limit("RLIMIT_CORE", 0)


def scans(pl, request):
    from host_tables import make_scan

    scan = make_scan(pl, request["tables"], request["base"])
    found = {}
    for name in request["tables"]:
        try:
            found[name] = {"plan": base64.b64encode(scan(name).serialize()).decode()}
        except Exception as error:
            found[name] = {"error": {"class": type(error).__name__, "message": str(error)}}
    return {"scans": found}


def resolve(pl, traverse, request):
    if "plan" in request:
        # A node of a client's plan over frames of nulls.
        plan = io.BytesIO(base64.b64decode(request["plan"]))
        return {"crossing": traverse.cross(pl, pl.LazyFrame.deserialize(plan))}
    frames = {}
    for at, (name, columns) in enumerate(request["tables"]):
        height = request["first_rows"] + at
        series = [pl.Series(n, [None], dtype=traverse.dtype_from(pl, d)).new_from_index(0, height) for n, d in columns]
        frames[name] = pl.DataFrame(series).lazy()
    for name, text in request.get("views", []):
        try:
            view = pl.SQLContext(frames, eager=False).execute(text)
            # Resolved now, so that what is wrong with it is known to be in this view.
            view.collect_schema()
        except BaseException as error:
            raise InView(name, error) from None
        frames[name] = view
    lf = pl.SQLContext(frames, eager=False).execute(request["query"])
    return {"crossing": traverse.cross(pl, lf)}


class InView(Exception):
    """What is wrong with a view."""

    def __init__(self, view, error):
        self.view, self.error = view, error


def reported(traverse, error):
    """An error as the engine reads it."""
    if isinstance(error, InView):
        return reported(traverse, error.error) | {"view": error.view}
    if isinstance(error, MemoryError):
        return {"class": "MemoryError", "message": ""}
    if isinstance(error, traverse.TooLarge):
        return {"class": "QueryTooLarge", "message": str(error)}
    if isinstance(error, RecursionError):
        return {"class": "QueryTooLarge", "message": "the query nests too deeply"}
    return {"class": type(error).__name__, "message": str(error)}


def converse(pl, traverse, first):
    """All about one text, in a copy of the process that ends with it."""
    die_with_parent()
    limit("RLIMIT_CPU", CPU_SECONDS)
    answer(scans(pl, first))
    second = request()
    if second is None:
        return
    limit_memory(first["memory_bytes"])
    # What is loaded on first use is loaded now.
    resolve(pl, traverse, {"tables": [["t", [["a", "Int64"]]]], "first_rows": 1001, "query": "SELECT 1 AS a FROM t"})
    sys.setrecursionlimit(5_000)
    # No file, socket or pipe can be opened by anything in this process from here on.
    limit("RLIMIT_NOFILE", 0)
    try:
        result = resolve(pl, traverse, second)
    except BaseException as error:
        result = {"error": reported(traverse, error)}
    answer(result)


def main():
    try:
        import polars as pl
    except ImportError as error:
        request()
        answer({"error": {"class": "SqlEnvironment", "message": f"cannot import polars in {sys.executable}: {error}"}})
        return
    import host_tables  # noqa: F401
    import traverse

    version = tuple(int(part) for part in pl.__version__.split(".")[:2])
    while (first := request()) is not None:
        if version != (2, 1):
            message = f"SQL is resolved by Polars 2.1, {sys.executable} has Polars {pl.__version__}"
            answer({"error": {"class": "SqlEnvironment", "message": message}})
            continue
        copy = os.fork()
        if copy == 0:
            code = 1
            try:
                converse(pl, traverse, first)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(copy, 0)
        if status:
            answer({"died": os.waitstatus_to_exitcode(status)})


main()
