"""`floe.Local`: a coordinator and workers on this machine that stay between queries."""

from __future__ import annotations

import atexit
import base64
import contextlib
import json
import os
import re
import shutil
import site
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import polars as pl

from floe import _html
from floe._context import ClientContext
from floe._http import Coordinator
from floe._process import Server
from floe._report import Report
from floe._request import Execution, Request
from floe._warn import warn
from floe.exceptions import ContextBusyError, ContextError, ContextWarning, IgnoredArgumentWarning

#: Pass larger plans to the coordinator as a file instead of in the request.
INLINE_BYTES = 4 << 20

_SIZES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def memory_bytes(memory: int | str) -> int:
    """Bytes of a quantity as Kubernetes writes it.

    >>> memory_bytes("2Gi")
    2147483648
    """
    if isinstance(memory, int):
        return memory
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGT]|[KMGT]i)?", memory)
    if match is None:
        raise ValueError(f"memory: {memory!r} is no quantity; write bytes, or text such as '2Gi' or '500M'")
    return int(float(match[1]) * _SIZES[match[2] or ""])


class Local(ClientContext):
    """A coordinator and worker processes on this machine, warm between queries.

    They start at once, listen on loopback only, take only this process' token, and end with it.

    Parameters
    ----------
    workers
        Worker processes. Left out, one for each CPU, four at most.
    threads
        Threads that each worker computes with.
    memory
        Memory of each worker, in bytes or as text (`"2Gi"`). A worker that needs more spills, and fails its task at last.
        Left out, workers have no limit, and plans are made for 2 GiB each.
    scratch
        Directory for shuffles and results. Left out, the system's directory for temporary files.
    storage
        Options for object stores, as Polars' `storage_options`, for every scan and sink of this context. Left out,
        options in a plan and the environment count.
    max_running
        Queries that run at once and share the workers; more wait.
    results_memory
        Memory for results that wait to be read; the oldest go first.
    start_timeout
        Seconds that the processes have to start.
    env
        Environment variables of the processes, beside those of this one.

    Examples
    --------
    >>> import floe, polars as pl
    >>> with floe.Local(workers=2) as ctx:
    ...     pl.LazyFrame({"a": [1, 2, 3]}).remote(ctx).collect().height
    3
    """

    #: Its processes read and write the files of this one.
    shares_files = True

    def __init__(
        self,
        workers: int | None = None,
        *,
        threads: int = 1,
        memory: int | str | None = None,
        scratch: str | os.PathLike[str] | None = None,
        storage: Mapping[str, str] | None = None,
        max_running: int | None = None,
        results_memory: int | str = "4Gi",
        start_timeout: float = 30.0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._workers = min(4, os.cpu_count() or 1) if workers is None else workers
        for name, value in (("workers", self._workers), ("threads", threads), ("max_running", max_running)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}: {value!r} is no whole number of at least 1")
        self._threads = threads
        self._memory = None if memory is None else memory_bytes(memory)
        if self._memory is not None and self._memory < 64 << 20:
            raise ValueError(f"memory: {memory!r} is below 64Mi, which no worker runs with")
        self._storage = dict(storage or {})
        self._env = _python() | dict(env or {})
        self._start_timeout = start_timeout
        self._arguments = ["--local-workers", str(self._workers), "--threads", str(threads)]
        if self._memory is not None:
            self._arguments += ["--memory-limit-bytes", str(self._memory)]
        if scratch is not None:
            self._arguments += ["--scratch", os.path.abspath(scratch)]
        if max_running is not None:
            self._arguments += ["--max-running", str(max_running)]
        self._arguments += ["--results-bytes", str(memory_bytes(results_memory)), "--remember-queries", "1024"]
        self._lock = threading.Lock()
        self._server: Server | None = None
        self._owner = os.getpid()
        self._closed = False
        self.start()
        _open.add(self)

    def start(self) -> None:
        """Start the processes, if they do not run."""
        with self._lock:
            self._closed = False
        self._running()

    def close(self) -> None:
        """End the processes, and with them all queries and results of this context."""
        with self._lock:
            self._closed = True
            server, self._server = self._server, None
        if server is not None and self._owner == os.getpid():
            server.close()

    def stop(self) -> None:
        """As `close`; `start` starts the processes again."""
        self.close()

    def __enter__(self) -> Local:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def workers(self) -> int:
        """Worker processes of this context."""
        return self._workers

    def _running(self) -> Server:
        """The engine; started again when it has ended by itself."""
        if self._owner != os.getpid():
            raise ContextError("this context belongs to the process that made it: make one in this process, too")
        with self._lock:
            if self._closed:
                raise ContextError("this context is closed: start() starts it again")
            if self._server is not None and not self._server.alive():
                warn(f"the engine of {self!r} had ended and is started again{self._server.log()}", ContextWarning)
                self._server.close()
                self._server = None
            if self._server is None:
                self._server = Server(self._arguments, self._env, self._start_timeout)
            return self._server

    def _job(self, request: Request, id: str, dsl: Mapping[str, str]) -> bytes:
        spec = request.spec()
        if request.sql is None:
            spec["plan"] = {"dsl": dict(dsl)}
        spec["compute"] = {"workers": self._workers, "cpus": self._threads}
        if self._memory is not None:
            spec["compute"]["memory"] = str(self._memory)
        if self._storage:
            spec["storage"] = {"options": self._storage}
        for name in ("min_workers", "max_workers"):
            if getattr(request, name) is not None:
                text = f"{name} means nothing to a local context, which has {self._workers} workers"
                warn(text, IgnoredArgumentWarning)
        return json.dumps({"id": id, "name": request.name, "attempt": 1, "base": os.getcwd(), "spec": spec}).encode()

    @contextlib.contextmanager
    def _sent(self, request: Request, id: str) -> Iterator[tuple[Server, dict[str, str], str | None]]:
        """The plan as a job names it, and its file if it is one, which goes if the job is not taken in."""
        server = self._running()
        if request.sql is not None:
            yield server, {}, None
            return
        if len(request.plan) <= INLINE_BYTES:
            yield server, {"inline": base64.b64encode(request.plan).decode()}, None
            return
        path = os.path.join(server.scratch, f"plan-{id}")
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(request.plan)
            yield server, {"path": path}, path
        except BaseException:
            _remove(path)
            raise

    def _submit(self, request: Request) -> LocalExecution:
        id = str(uuid.uuid4())
        with self._sent(request, id) as (server, dsl, path):
            kept = os.path.join(server.scratch, f"result-{id}") if request.keep and not request.sinks else None
            if kept is not None:
                sink = {"uri": f"{kept}/", "format": "ipc", "mode": "overwrite"}
                request = Request(**(vars(request) | {"sink": sink}))
            taken = server.coordinator.json("POST", "/api/v1/queries", self._job(request, id, dsl))
        return LocalExecution(self, server, taken["id"], path, kept)

    def _explain(self, request: Request, format: str) -> str:
        id = str(uuid.uuid4())
        with self._sent(request, id) as (server, dsl, path):
            try:
                asked = f"/api/v1/explain?{urlencode({'format': format})}"
                return server.coordinator.request("POST", asked, self._job(request, id, dsl)).decode()
            finally:
                _remove(path)

    def _versions(self) -> dict[str, str]:
        return {"Floe (engine)": self._running().version}

    def __repr__(self) -> str:
        size = "" if self._memory is None else f", memory={self._memory}"
        return f"Local(workers={self._workers}, threads={self._threads}{size})"

    def _repr_html_(self) -> str:
        running = self._server is not None and self._server.alive()
        rows: dict[str, Any] = {"workers": self._workers, "threads each": self._threads}
        rows["memory each"] = "no limit" if self._memory is None else _html.size(self._memory)
        rows["processes"] = "running" if running else "not running"
        return _html.card("floe.Local", _html.table(rows))


class LocalExecution(Execution):
    """A query of a local engine."""

    def __init__(self, context: Local, server: Server, id: str, plan: str | None, kept: str | None) -> None:
        self.id, self.report = id, Report(workers=tuple(f"w{number}" for number in range(server.workers)))
        self._context, self._server, self._plan, self._kept = context, server, plan, kept
        self._forgotten = False

    @property
    def _coordinator(self) -> Coordinator:
        return self._server.coordinator

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """A coordinator that does not answer because its process has ended, with what it last said."""
        try:
            yield
        except ContextBusyError:
            raise
        except ContextError as error:
            if self._server.alive():
                raise
            raise ContextError(f"the engine has ended, and the query with it{self._server.log()}") from error

    def refresh(self) -> Report:
        with self._explained():
            self.report = self._coordinator.report(self.id)
        return self._ended()

    def watch(self, tell: Callable[[Report], None]) -> Report:
        with self._explained():
            self._coordinator.watch(self.id, self.report, tell)
        return self._ended()

    def _ended(self) -> Report:
        if self.report.ended:
            _remove(self._plan)
            self._plan = None
            if self._kept is not None and self.report.phase == "Succeeded":
                self.location = sorted(entry.path for entry in os.scandir(self._kept) if entry.is_file())
        return self.report

    def cancel(self) -> None:
        with self._explained():
            self._coordinator.forget(self.id)

    def forget(self) -> None:
        if self._forgotten:
            return
        self._forgotten = True
        _remove(self._plan)
        if self._kept is not None:
            shutil.rmtree(self._kept, ignore_errors=True)
        if self._server.alive():
            self._coordinator.forget(self.id)

    def explain(self, format: str) -> str:
        with self._explained():
            return self._coordinator.explain(self.id, format)

    def frame(self, rows: int | None = None) -> pl.DataFrame:
        if self.location is not None:
            lf = pl.scan_ipc(self.location)
            return (lf if rows is None else lf.head(rows)).collect(engine="in-memory")
        with self._explained():
            return self._coordinator.frame(self.id, rows)

    def batches(self) -> Iterator[pl.DataFrame]:
        if self.location is not None:
            for path in self.location:
                yield pl.scan_ipc(path, glob=False).collect(engine="in-memory")
            return
        with self._explained():
            yield from self._coordinator.batches(self.id)


def _python() -> dict[str, str]:
    """This Python: for the plan's functions, with the modules that they may import, and for SQL if its Polars can resolve
    it for the engine, which starts it without the user's own packages."""
    found = {}
    if sys.executable:
        path = os.pathsep.join(os.path.abspath(part) for part in sys.path)
        found = {"FLOE_FUNCTIONS_PYTHON": sys.executable, "FLOE_PYTHON_PATH": path}
    own = [site.getusersitepackages(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    fits = pl.__version__.startswith("2.1.") and not any(pl.__file__.startswith(os.path.abspath(path)) for path in own)
    if fits and sys.executable and not os.environ.get("FLOE_PYTHON"):
        found["FLOE_PYTHON"] = sys.executable
    return found


def _remove(path: str | None) -> None:
    if path is not None:
        with contextlib.suppress(OSError):
            os.unlink(path)


_open: weakref.WeakSet[Local] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for context in list(_open):
        context.close()
