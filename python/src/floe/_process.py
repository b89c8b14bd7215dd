"""`floe-runner serve` as a child of this process: started, watched, and ended with it, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import IO, Any
from urllib.parse import urlsplit

from floe import _binaries
from floe._http import Coordinator
from floe.exceptions import ContextError

#: Kill an engine that has not ended by itself within this time.
STOP_SECONDS = 15.0
LOG_BYTES = 4000

_running: weakref.WeakSet[Server] = weakref.WeakSet()


class Server:
    """A coordinator with its workers. Its log has no name, its port takes only its token, its files go with it."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], start_timeout: float) -> None:
        token = secrets.token_hex(32)
        command = [_binaries.find("floe-runner"), "serve", "--parent", str(os.getpid()), *arguments]
        self._log: IO[bytes] = tempfile.TemporaryFile(prefix="floe-log-")
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, **env, "FLOE_TOKEN": token},
                # Ctrl-C in a terminal cancels a query; it must not end the engine.
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise ContextError(f"cannot start {command[0]}: {error}") from error
        _running.add(self)
        try:
            ready = self._hello(start_timeout)
        except BaseException:
            self.close(patience=0.0)
            raise
        address = urlsplit(ready["http"])
        assert address.hostname is not None and address.port is not None
        self.coordinator = Coordinator(address.hostname, address.port, token)
        self.scratch: str = ready["scratch"]
        self.version: str = ready["version"]
        self.workers: int = ready["workers"]

    @property
    def pid(self) -> int:
        """The process id of the coordinator."""
        return self._child.pid

    def _hello(self, timeout: float) -> dict[str, Any]:
        """The line that says that it is ready."""
        out, line, until = self._child.stdout, b"", time.monotonic() + timeout
        assert out is not None
        while not line.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                raise ContextError(f"floe-runner was not ready after {timeout:g} s{self.log()}")
            part = os.read(out.fileno(), 65536)
            if not part:
                code = self._child.wait()
                raise ContextError(f"floe-runner ended with exit code {code}{self.log()}")
            line += part
        ready: dict[str, Any] = json.loads(line)
        return ready

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.poll() is None

    def log(self) -> str:
        """The end of its log, after a colon; nothing where there is none."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES)).decode(errors="replace").strip()
        return f":\n{text}" if text else ""

    def close(self, patience: float = STOP_SECONDS) -> None:
        """Ends the process: it removes its files when its stdin is closed."""
        if not self._log.closed and (coordinator := getattr(self, "coordinator", None)) is not None:
            coordinator.close()
        child = self._child
        with contextlib.suppress(OSError):
            if child.stdin is not None:
                child.stdin.close()
        if child.poll() is None:
            try:
                child.wait(timeout=patience or 0.01)
            except subprocess.TimeoutExpired:
                child.terminate()
                try:
                    child.wait(timeout=2.0)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        # An engine that was killed, or ended too slowly, leaves its directory behind.
        if scratch := getattr(self, "scratch", None):
            shutil.rmtree(scratch, ignore_errors=True)
        if child.stdout is not None:
            child.stdout.close()
        self._log.close()
        _running.discard(self)

    def _leave(self) -> None:
        """In a forked child: the engine is the parent's, and must end with it."""
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        # Do not wait for it or end it in this process.
        self._child.returncode = 0


def _after_fork() -> None:
    for server in list(_running):
        server._leave()
    _running.clear()


os.register_at_fork(after_in_child=_after_fork)
