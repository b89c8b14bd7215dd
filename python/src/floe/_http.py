"""A coordinator's HTTP port: requests over connections that are kept, its events, its results."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import polars as pl

from floe import _ipc
from floe._report import Report
from floe._retry import Patience
from floe.exceptions import (
    ConnectionLostError,
    ContextBusyError,
    ContextError,
    QueryCancelledError,
    ResultGoneError,
    error_of,
)

#: Read timeout: a coordinator sends something at least every ten seconds, if only a keep-alive.
SILENCE_SECONDS = 60.0
_TCP = (socket.AF_INET, socket.AF_INET6)
#: Maximum number of idle connections to keep.
KEPT = 8
#: Response header: the number of rows of a result that the coordinator skipped.
OFFSET = "floe-offset"


class Coordinator:
    """Speaks to one coordinator. Threads may share it."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._host, self._port = host, port
        self._headers = {"Authorization": f"Bearer {token}"}
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _patience(self) -> Patience:
        """How long a broken connection is tried again: on this machine none breaks but by the end of the process."""
        return Patience(0.0)

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port, timeout=SILENCE_SECONDS)

    @contextlib.contextmanager
    def open(self, method: str, path: str, body: bytes | None = None) -> Iterator[http.client.HTTPResponse]:
        """An answer to read; a connection whose answer was not read to its end is not kept."""
        connection, response = self._send(method, path, body)
        whole = False
        try:
            if response.status >= 300:
                refused = self._refused(response)
            else:
                refused = None
                yield response
            whole = response.isclosed()
        except (ConnectionError, TimeoutError, http.client.HTTPException, EOFError) as error:
            raise ConnectionLostError(f"the coordinator broke off in {method} {path}: {_text(error)}") from error
        finally:
            with self._lock:
                kept = whole and connection.sock is not None and len(self._idle) < KEPT
                if kept:
                    self._idle.append(connection)
            if not kept:
                connection.close()
        if refused is not None:
            raise refused

    def _send(
        self, method: str, path: str, body: bytes | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            connection = kept or self._connection()
            try:
                connection.request(method, path, body, self._headers)
                if connection.sock.family in _TCP and hasattr(socket, "TCP_QUICKACK"):
                    # Answers come in small packets, each of which delayed ACKs could hold up for 40 ms.
                    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                return connection, connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # The server may have closed an idle connection meanwhile. It may also have accepted the request: repeat
                # only what can safely be repeated.
                if kept is not None and (method != "POST" or isinstance(error, http.client.RemoteDisconnected)):
                    continue
                raise ConnectionLostError(f"the coordinator does not answer: {_text(error)}") from error
            except BaseException:
                connection.close()
                raise

    def _refused(self, response: http.client.HTTPResponse) -> BaseException:
        text = response.read().decode(errors="replace")
        try:
            told = json.loads(text)
        except ValueError:
            told = {"category": "Internal", "class": f"HTTP {response.status}", "message": text}
        message = str(told.get("message", text))
        if response.status == 429:
            return ContextBusyError(message)
        if response.status == 401:
            return ContextError(f"the coordinator refuses the token: {message}")
        if response.status in (404, 410):
            return ResultGoneError(message)
        return error_of(told)

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The whole body of an answer."""
        with self.open(method, path, body) as response:
            return response.read()

    def json(self, method: str, path: str, body: bytes | None = None) -> Any:
        """An answer in JSON."""
        return json.loads(self.request(method, path, body))

    def report(self, id: str) -> Report:
        """A query at this moment."""
        return Report.of(self.json("GET", f"/api/v1/queries/{quote(id)}"))

    def watch(self, id: str, report: Report, tell: Callable[[Report], None]) -> Report:
        """Follows a query to its end, and keeps `report` up to date; over another connection where one breaks."""
        patience = self._patience()
        while not report.ended:
            try:
                self._follow(id, report, tell, patience)
            except ConnectionLostError as error:
                # Once the end has been reported, a broken connection loses nothing.
                if not report.ended:
                    patience.wait(error)
        return report

    def _follow(self, id: str, report: Report, tell: Callable[[Report], None], patience: Patience) -> None:
        with self.open("GET", f"/api/v1/queries/{quote(id)}/events") as response:
            for line in response:
                patience.heard()
                if not line.startswith(b"data:"):
                    continue
                event = json.loads(line[5:])
                kind = event.pop("type", None)
                if kind == "planned":
                    report.planned(event)
                elif kind == "stage":
                    report.progress(event)
                elif kind == "done":
                    report.done(event["outcome"])
                elif kind == "error":
                    report.failed(event)
                tell(report)
                if report.ended:
                    response.read()
                    return
        raise ConnectionLostError("the coordinator ended before the query")

    def forget(self, id: str) -> None:
        """Cancels a query; lets go of one that has ended."""
        with contextlib.suppress(ResultGoneError):
            self.request("DELETE", f"/api/v1/queries/{quote(id)}")

    def explain(self, id: str, format: str) -> str:
        """The stages of a query."""
        if format == "text":
            return self.request("GET", f"/api/v1/queries/{quote(id)}/plan").decode()
        return self.request("GET", f"/api/v1/queries/{quote(id)}/graph?format={format}").decode()

    def frame(self, id: str, rows: int | None = None) -> pl.DataFrame:
        """A result, or its first rows."""
        try:
            return self._whole(id, rows)
        except ConnectionLostError as error:
            self._patience().wait(error)
        # A file would have to start over; a stream continues where it broke off.
        frames = list(self.batches(id, rows))
        return frames[0] if len(frames) == 1 else pl.concat(frames, rechunk=False)

    def _whole(self, id: str, rows: int | None) -> pl.DataFrame:
        with self.open("GET", _result(id, "file", rows)) as response:
            if response.headers.get_content_type() == _ipc.FILE:
                return _ipc.read_file(response)
            frame = _ipc.read_stream(response)
            response.read()
            return frame

    def batches(self, id: str, rows: int | None = None) -> Iterator[pl.DataFrame]:
        """A result, or its first rows, batch by batch as it comes. Where the connection breaks, another one goes on after the
        rows that have come."""
        given, patience = 0, self._patience()
        while True:
            left = None if rows is None else rows - given
            try:
                with self.open("GET", _result(id, "stream", left, given)) as response:
                    if given and response.headers.get(OFFSET) != str(given):
                        raise ContextError(
                            f"the connection broke after {given:,} rows, and the coordinator is of a release that cannot go "
                            "on from there: read the result again"
                        )
                    for frame in _ipc.batches(response):
                        patience.heard()
                        # If the whole result had arrived, its rest is a frame without rows.
                        if frame.height or not given:
                            given += frame.height
                            yield frame
                    response.read()
                return
            except ConnectionLostError as error:
                patience.wait(error)


def _result(id: str, format: str, rows: int | None, offset: int = 0) -> str:
    options: dict[str, str | int] = {"format": format, "compat": "newest"}
    options |= {} if rows is None else {"rows": rows}
    options |= {"offset": offset} if offset else {}
    return f"/api/v1/queries/{quote(id)}/result?{urlencode(options)}"


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def cancelled(id: str) -> QueryCancelledError:
    """The error of a query that was cancelled."""
    error = QueryCancelledError(f"query {id} was cancelled")
    error.query_id, error.category = id, "cancelled"
    return error
