"""What goes wrong: Polars' own classes where it is Polars that complained, these where it is Floe.

Every error of a query carries `query_id`, `category` (one of those in docs/failures.md) and `reason`, the class as the
engine names it.
"""

from __future__ import annotations

import builtins
from typing import Any

import polars as pl

__all__ = [
    "ConnectionLostError",
    "ContextBusyError",
    "ContextError",
    "ContextWarning",
    "DeadlineError",
    "FloeError",
    "FloeWarning",
    "IgnoredArgumentWarning",
    "InternalError",
    "LocalFileError",
    "OutOfMemoryError",
    "PlanError",
    "QueryCancelledError",
    "QueryWarning",
    "ResultGoneError",
    "StorageError",
    "UnsupportedPlanError",
    "WorkerLostError",
]


class FloeError(Exception):
    """Base of all errors that are Floe's own."""

    #: The query that failed, once it has an id.
    query_id: str | None = None
    #: What kind of failure it is: user, io, lost-worker, out-of-memory, deadline, cancelled, internal.
    category: str | None = None
    #: The class of the error as the engine names it.
    reason: str | None = None


class PlanError(FloeError):
    """The plan, the sink or a setting is refused: the same query fails the same way again."""


class UnsupportedPlanError(PlanError):
    """The plan holds what a distributed query cannot run, such as a compiled expression plugin."""


class LocalFileError(PlanError):
    """The plan names a file of this machine, and the query runs on others."""


class StorageError(FloeError, OSError):
    """A file or a store did not answer, or answered wrongly, more often than `n_retries` allows."""


class WorkerLostError(FloeError):
    """Workers went away, more often than can be made good."""


class OutOfMemoryError(FloeError, MemoryError):
    """A task needs more memory than its worker has."""


class DeadlineError(FloeError, TimeoutError):
    """The query took longer than it may."""


class QueryCancelledError(FloeError):
    """The query was cancelled."""


class InternalError(FloeError):
    """A fault of Floe's own: please report it."""


class ResultGoneError(FloeError):
    """The query or its result was deleted, has made room for those of later queries, or went with its coordinator."""


class ContextError(FloeError):
    """The context does not run: it could not start, has ended, or does not answer."""


class ConnectionLostError(ContextError, ConnectionError):
    """The connection to the context broke, and did not come back in time. What runs there goes on: `query_id` names it."""


class ContextBusyError(ContextError):
    """As many queries run and wait as the context takes: try again later."""


class FloeWarning(UserWarning):
    """Base of all warnings of Floe's own."""


class IgnoredArgumentWarning(FloeWarning):
    """An argument that Polars Cloud knows and that means nothing here."""


class ContextWarning(FloeWarning):
    """The processes of a context had ended and were started again."""


class QueryWarning(FloeWarning):
    """What a query tells with its result, such as a difference between versions of Polars."""


#: The engine's classes for plans that cannot run at all.
_UNSUPPORTED = frozenset({"PythonInPlan", "UnsupportedPlan", "UnsupportedVersion", "NotSupported"})
_BY_CATEGORY: dict[str, type[FloeError]] = {
    "user": PlanError,
    "io": StorageError,
    "lostworker": WorkerLostError,
    "outofmemory": OutOfMemoryError,
    "deadline": DeadlineError,
    "cancelled": QueryCancelledError,
}
_NAMES = {"lostworker": "lost-worker", "outofmemory": "out-of-memory"}


def builtin(name: str) -> type[Exception] | None:
    """An exception of Python's own, as Polars and functions of a plan raise them."""
    known = getattr(builtins, name, None)
    return known if isinstance(known, type) and issubclass(known, Exception) else None


def _raised(name: str, message: str) -> Exception | None:
    known = builtin(name)
    try:
        return None if known is None else known(message)
    except TypeError:  # Some want more than a message.
        return None


def error_of(told: dict[str, Any], query_id: str | None = None) -> BaseException:
    """The exception for what the engine tells of a failure.

    >>> error_of({"category": "User", "class": "ColumnNotFoundError", "message": "x"})
    ColumnNotFoundError('x')
    >>> error_of({"category": "User", "class": "PythonInPlan", "message": "a plugin"})
    UnsupportedPlanError('a plugin')
    >>> error_of({"category": "User", "class": "ZeroDivisionError", "message": "division by zero"})
    ZeroDivisionError('division by zero')
    """
    category = str(told.get("category", "")).replace("-", "").lower()
    reason, message = str(told.get("class", "")), str(told.get("message", ""))
    error: BaseException
    own = getattr(pl.exceptions, reason, None)
    if category == "user" and isinstance(own, type) and issubclass(own, BaseException):
        error = own(message)
    elif category == "user" and (raised := _raised(reason, message)) is not None:
        error = raised
    elif category == "user" and reason in _UNSUPPORTED:
        error = UnsupportedPlanError(message)
    elif category == "user":
        error = PlanError(message)
    else:
        known = _BY_CATEGORY.get(category, InternalError)
        # The engine's class is more specific than the category if the two differ.
        error = known(f"{reason}: {message}" if reason and known is not QueryCancelledError else message)
    error.query_id = query_id  # type: ignore[attr-defined]
    error.category = _NAMES.get(category, category) or "internal"  # type: ignore[attr-defined]
    error.reason = reason or None  # type: ignore[attr-defined]
    return error
