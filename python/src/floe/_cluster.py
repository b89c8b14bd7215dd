"""A query that an object of a cluster stands for: its status, its end, its rows."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from floe import _graph
from floe._api import CALL_SECONDS, GROUP, QUERIES, VERSION, api_errors, if_there, library
from floe._report import QueryStatus, Report
from floe._request import Execution
from floe._retry import Patience, goes_on, patiently
from floe._warn import warn
from floe.exceptions import ConnectionLostError, ContextError, QueryWarning, ResultGoneError, builtin

if TYPE_CHECKING:
    from floe._forward import Forwarded
    from floe._kubernetes import Kubernetes

#: A watch ends after this time and begins anew.
WATCH_SECONDS = 60

_CATEGORIES = {
    "OutOfMemory": "OutOfMemory",
    "CoordinatorOutOfMemory": "OutOfMemory",
    "StorageFailed": "Io",
    "Deadline": "Deadline",
    "StartingDeadline": "Deadline",
    "Cancelled": "Cancelled",
    "BackoffLimit": "LostWorker",
    "CoordinatorLost": "LostWorker",
    "WorkerLost": "LostWorker",
    "Internal": "Internal",
}


class ClusterExecution(Execution):
    """A query that an object of a cluster stands for."""

    def __init__(self, context: Kubernetes, name: str, uid: str = "") -> None:
        self.id, self.report = name, Report(phase="Pending")
        self._context, self._uid = context, uid
        self._attempt = 1
        self._coordinator_pod: str | None = None
        self._forwarded: Forwarded | None = None

    def _take(self, made: dict[str, Any]) -> None:
        """Takes a status in."""
        status, report = made.get("status") or {}, self.report
        self._attempt = status.get("attempt", 1)
        # That of a context, if the query borrows one.
        self._coordinator_pod = (status.get("context") or {}).get("coordinator")
        if told := status.get("stages"):
            # Whoever draws meanwhile sees the former stages or the new ones.
            stages = Report()
            for stage in told:
                stages.progress(stage)
            report.stages = stages.stages
        workers = status.get("workers", {})
        report.workers = tuple(str(number) for number in range(workers.get("ready", 0)))
        report.warnings = tuple(status.get("warnings", ()))
        report.single_worker = tuple(f"{one['node']}: {one['reason']}" for one in status.get("singleWorker", ()))
        report.phase = status.get("phase", "Pending")
        report.ahead = status.get("ahead")
        # How a query ended is its outcome or its error.
        report.held_up = None if report.ended else held_up(status)
        if report.phase == "Succeeded":
            report.outcome = {"rows": status.get("rows", 0), "bytesShuffled": status.get("bytesShuffled", 0)}
            if (took := status.get("durationMs")) is not None:
                report.outcome["durationMs"] = took
            if uri := status.get("resultUri"):
                report.outcome["sinkUri"] = uri
        elif report.ended:
            report.failed(_error(status))

    def refresh(self) -> Report:
        context, found = self._context, None
        with api_errors(f"cannot read query {self.id}"), if_there():
            found = context._objects.get_namespaced_custom_object(GROUP, VERSION, context._namespace, QUERIES, self.id)
        if found is None:
            where = f"namespace {context._namespace}"
            raise ResultGoneError(f"there is no query {self.id} in {where}: it was deleted, or is elsewhere")
        self._uid = found["metadata"]["uid"]
        self._take(found)
        return self.report

    def watch(self, tell: Callable[[Report], None]) -> Report:
        with goes_on(self.id, "runs on"):
            return self._watched(tell)

    def _watched(self, tell: Callable[[Report], None]) -> Report:
        patience = Patience()
        while not self.report.ended:
            try:
                self.refresh()
                patience.heard()
                tell(self.report)
                if not self.report.ended:
                    self._follow(tell)
            except ConnectionLostError as error:
                patience.wait(error)
        return self.report

    def _follow(self, tell: Callable[[Report], None]) -> None:
        """Takes in what happens, until the watch ends or the query has."""
        context, watching = self._context, library().watch.Watch()
        with api_errors(f"cannot watch query {self.id}"):
            events = watching.stream(
                context._objects.list_namespaced_custom_object,
                GROUP,
                VERSION,
                context._namespace,
                QUERIES,
                field_selector=f"metadata.name={self.id}",
                timeout_seconds=WATCH_SECONDS,
                _request_timeout=(CALL_SECONDS[0], WATCH_SECONDS + 10.0),
            )
            for event in events:
                if event["type"] == "DELETED":
                    raise ResultGoneError(f"query {self.id} was deleted")
                self._take(event["object"])
                tell(self.report)
                if self.report.ended:
                    return

    def cancel(self) -> None:
        context = self._context
        with api_errors(f"cannot cancel query {self.id}"):
            context._objects.patch_namespaced_custom_object(
                GROUP, VERSION, context._namespace, QUERIES, self.id, {"spec": {"cancel": True}}
            )

    def forget(self) -> None:
        if self._forwarded is not None:
            self._forwarded.close()
        context = self._context
        with api_errors(f"cannot delete query {self.id}"), if_there():
            context._objects.delete_namespaced_custom_object(GROUP, VERSION, context._namespace, QUERIES, self.id)

    def _coordinator(self) -> Forwarded:
        """The query's coordinator, through the API server."""
        from floe._forward import Forwarded

        if self._forwarded is None:
            context = self._context

            def listed() -> Any:
                with api_errors(f"cannot read the token of query {self.id}"):
                    selector = f"floe.dev/query={self.id}"
                    return context._core.list_namespaced_secret(context._namespace, label_selector=selector).items

            secrets = patiently(listed)
            # Each attempt has a token of its own.
            own = [secret for secret in secrets if secret.metadata.name.startswith(f"{self.id}-floe-{self._attempt}-")]
            tokens = [secret.data["token"] for secret in own or secrets if "token" in (secret.data or {})]
            if not tokens:
                if self.refresh().status is QueryStatus.QUEUED:
                    why = self.report.held_up or "it waits for its pods"
                    raise ContextError(f"query {self.id} has not started yet: {why}")
                raise ResultGoneError(f"the rows of query {self.id} are gone: its coordinator has ended")
            token = base64.b64decode(tokens[0]).decode()
            pod = self._coordinator_pod or f"{self.id}-{self._attempt}-c"
            self._forwarded = Forwarded(context._core, context._namespace, pod, token)
        return self._forwarded

    def explain(self, format: str) -> str:
        try:
            return self._coordinator().explain(self._uid, format)
        except ResultGoneError:
            # What the status keeps of the plan is there for good.
            with contextlib.suppress(ResultGoneError):
                self.refresh()
            if not self.report.stages or format not in ("text", "dot"):
                raise
            warn("the coordinator is gone, and with it what each stage does in detail", QueryWarning)
            stages = self.report.stages
            return _graph.dot(stages) if format == "dot" else _graph.text(stages, self.report.single_worker)

    def frame(self, rows: int | None = None) -> pl.DataFrame:
        with goes_on(self.id, "keeps its rows for some minutes"):
            return self._coordinator().frame(self._uid, rows)

    def batches(self) -> Iterator[pl.DataFrame]:
        with goes_on(self.id, "keeps its rows for some minutes"):
            yield from self._coordinator().batches(self._uid)


def held_up(status: Mapping[str, Any]) -> str | None:
    """Why a query or a context is where it is.

    >>> held_up({"reason": "Unschedulable", "message": "0/3 nodes are available"})
    'Unschedulable: 0/3 nodes are available'
    """
    words = [status[field] for field in ("reason", "message") if status.get(field)]
    return ": ".join(words) or None


def _error(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status' reason and message as an error: its class stands before the message, what to do after it."""
    reason, message = status.get("reason", ""), status.get("message", "")
    if status.get("phase") == "Cancelled":
        return {"category": "Cancelled", "class": "Cancelled", "message": message}
    category = _CATEGORIES.get(reason, "User")
    match = re.fullmatch(r"(?s)([A-Z]\w+): (.*?)(\. To do: .*)?", message)
    raised = match[1] if match is not None else ""
    if match is not None and (hasattr(pl.exceptions, raised) or (category == "User" and builtin(raised) is not None)):
        return {"category": "User", "class": raised, "message": match[2]}
    return {"category": category, "class": reason, "message": message}
