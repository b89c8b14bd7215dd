"""Runs one plan script and writes the plan it assigned to `result`.

Started by the engine as `python -I -B script_host.py <directory>`, in a process group of its own. The directory holds
`request.json` and `script.py`; this leaves `plan.bin`, or `error.json`. Only this file and the script run here: the
environment is empty but for what a script needs, and the only credentials are the query's own storage options.
"""

import builtins
import json
import linecache
import os
import sys
import traceback

sys.path.insert(0, sys.argv[1])

from host_tables import make_scan  # noqa: E402

sys.path.pop(0)


def fail(cls, message):
    with open("error.json.part", "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump({"class": cls, "message": message}, file)
    os.rename("error.json.part", "error.json")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def die_with_parent():
    try:
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except Exception:
        pass  # Not Linux: the engine's own kill of the process group remains.


def limit_memory(extra_bytes):
    """Caps what the script may allocate on top of what Python and Polars hold already."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (mapped + extra_bytes, mapped + extra_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        pass


class Params(dict):
    """`spec.params`: params["day"] or params.day."""

    def __missing__(self, name):
        known = ", ".join(sorted(self)) or "none"
        raise KeyError(f"no parameter {name!r} in spec.params (there are: {known})")

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None


class NoCatalog:
    def __getattr__(self, name):
        raise NotImplementedError("catalogs are not built yet: name the table in spec.tables and call scan(name)")


def script_traceback(error, script_name):
    """As Python prints it, with the script's own frames only."""
    report = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    seen = report
    while seen is not None:
        seen.stack = traceback.StackSummary.from_list([f for f in seen.stack if f.filename == script_name])
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "".join(report.format()).rstrip()


def main():
    os.chdir(sys.argv[1])
    with open("request.json", encoding="utf-8") as file:
        request = json.load(file)
    os.unlink("request.json")  # It holds the storage options.
    with open("script.py", encoding="utf-8") as file:
        source = file.read()
    die_with_parent()
    try:
        import polars as pl
    except ImportError as error:
        fail("ScriptEnvironment", f"cannot import polars in {sys.executable}: {error}")
    limit_memory(request["memory_bytes"])

    name = request["script_name"]
    lines = source.splitlines(keepends=True)
    linecache.cache[name] = (len(source), None, lines, name)
    here = os.getcwd()
    base = request["base"]
    scan = make_scan(pl, request["tables"], base)
    scope = {
        "__name__": "__main__",
        "__file__": name,
        "__builtins__": builtins,
        "pl": pl,
        "scan": scan,
        "params": Params(request["params"]),
        "catalog": NoCatalog(),
    }
    try:
        os.chdir(base)
        exec(compile(source, name, "exec"), scope)
    except MemoryError:
        os.chdir(here)
        fail("MemoryError", f"the plan script needs more memory than its limit of {request['memory_bytes'] >> 20} MiB")
    except SystemExit as error:
        os.chdir(here)
        fail("ScriptError", f"the plan script called exit({'' if error.code is None else repr(error.code)}) instead of assigning `result`")
    except BaseException as error:
        text = script_traceback(error, name)
        os.chdir(here)
        fail(type(error).__name__, f"the plan script failed\n{text}")
    os.chdir(here)

    if "result" not in scope:
        near = [n for n, v in scope.items() if isinstance(v, (pl.LazyFrame, pl.DataFrame))]
        hint = f"; is it `{near[-1]}`?" if near else ""
        fail("ScriptError", f"the plan script does not assign `result` (a LazyFrame or DataFrame){hint}")
    result = scope["result"]
    if isinstance(result, pl.DataFrame):
        result = result.lazy()
    if not isinstance(result, pl.LazyFrame):
        hints = {"LazyGroupBy": "; call .agg(…) on it", "GroupBy": "; call .agg(…) on it", "Expr": "; select it from a frame", "Series": "; call .to_frame() on it"}
        kind = type(result).__name__
        fail("ScriptError", f"`result` of the plan script is {kind}, not a LazyFrame or DataFrame{hints.get(kind, '')}")
    try:
        plan = result.serialize()
    except Exception as error:
        if "cloudpickle" in str(error) or "pickle" in str(error):
            fail("PythonInPlan", "the plan holds Python code, which this engine does not run: a function or source in Python; write it with Polars expressions, or apply it to the collected result")
        fail(type(error).__name__, f"the plan in `result` cannot be serialized: {error}")
    with open("plan.bin.part", "wb") as file:
        file.write(plan)
    with open("version", "w", encoding="ascii") as file:
        file.write(pl.__version__)
    os.rename("plan.bin.part", "plan.bin")
    sys.stdout.flush()
    sys.stderr.flush()
    # What the script started or registered must not run on.
    os._exit(0)


try:
    main()
except MemoryError:
    fail("MemoryError", "the plan script needs more memory than its limit")
