"""Runs serialized plans with this interpreter's Polars, for `floe-runner verify --oracle python`.

A server on a pipe: each request on stdin is a line of JSON, `{"engine": "streaming", "bytes": 123}`, followed by the
bytes of `LazyFrame.serialize()`; each answer on stdout is a line of JSON, `{"heights": [3], "bytes": [456]}` followed by
one Arrow IPC file for each result, or `{"class": "ColumnNotFoundError", "message": "…"}`. The first line on stdout, before
any request, is `{"version": "2.1.0"}`, or `{"error": "…"}`.
"""

import io
import json
import os
import sys
import threading
import time
import warnings

DTYPES = set(
    "Null Boolean Int8 Int16 Int32 Int64 Int128 UInt8 UInt16 UInt32 UInt64 UInt128 Float16 Float32 Float64 Decimal String"
    " Binary Date Datetime Duration Time Categorical Enum List Array Struct Extension".split()
)


def main():
    requests = sys.stdin.buffer
    # Whatever else prints on stdout must not end up between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=end_with, args=[os.getppid()], daemon=True).start()

    def answer(head, *bodies):
        answers.write(json.dumps(head).encode() + b"\n")
        for body in bodies:
            answers.write(body)
        answers.flush()

    try:
        import polars as pl
    except ImportError as error:
        answer({"error": f"cannot import polars: {error}"})
        return
    warnings.simplefilter("ignore")
    answer({"version": pl.__version__})
    while line := requests.readline():
        request = json.loads(line)
        plan = requests.read(request["bytes"])
        try:
            frames = run(pl, plan, request["engine"])
            for frame in frames:
                check_dtypes(frame)
            bodies = [ipc(pl, frame) for frame in frames]
        # Panics of Polars are no `Exception`.
        except BaseException as error:
            answer({"class": type(error).__name__, "message": message_of(error)})
            continue
        answer({"heights": [frame.height for frame in frames], "bytes": [len(body) for body in bodies]}, *bodies)


def run(pl, plan, engine):
    lazy = pl.LazyFrame.deserialize(io.BytesIO(plan))
    collected = lazy.collect(engine=engine)
    return [collected] if isinstance(collected, pl.DataFrame) else list(collected)


class ForeignDtype(Exception):
    """A column of a dtype that Rust 0.55.2 does not have: Arrow IPC would bring it as another one."""


def check_dtypes(frame):
    try:
        schema = frame.schema
    # Encoded rows have a dtype that Python cannot name. It travels well.
    except BaseException:
        return
    for name, dtype in schema.items():
        if any(type(part).__name__ not in DTYPES for part in parts(dtype)):
            raise ForeignDtype(f"column `{name}` is {dtype}")


def parts(dtype):
    """A dtype and those in it."""
    yield dtype
    if (inner := getattr(dtype, "inner", None)) is not None:
        yield from parts(inner)
    for field in getattr(dtype, "fields", None) or []:
        yield from parts(field.dtype)


def ipc(pl, frame):
    """One Arrow IPC file with the dtypes as they are: no compatibility, and one dictionary a column."""
    if frame.width == 0:
        return b""
    file = io.BytesIO()
    frame.rechunk().write_ipc(file, compression="uncompressed", compat_level=pl.CompatLevel.newest())
    return file.getvalue()


def message_of(error):
    return str(error.args[0]) if len(error.args) == 1 else str(error)


def end_with(parent):
    """Ends this process soon after its parent, even in the middle of a plan."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


main()
