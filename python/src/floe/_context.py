"""What all contexts share, and which of them counts where none is named."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any, TypeVar

import polars as pl

from floe._request import Execution, Request

_F = TypeVar("_F", bound=Callable[..., Any])


class ClientContext(ABC):
    """Where queries run: `floe.Local`, `floe.Kubernetes` or `floe.ComputeContext`."""

    #: Whether its processes read and write the files of this one.
    shares_files = False

    @abstractmethod
    def _submit(self, request: Request) -> Execution:
        """Takes a query in."""

    @abstractmethod
    def _explain(self, request: Request, format: str) -> str:
        """The stages of a query that is not run."""

    @abstractmethod
    def _versions(self) -> dict[str, str]:
        """Versions of what runs the queries."""

    def show_versions(self) -> None:
        """Print the versions of Floe, of the engine and of Polars."""
        versions = {"Floe (Python)": _own_version()} | self._versions()
        versions |= {"Polars (Python)": pl.__version__}
        print("\n".join(f"{name}: {version}" for name, version in versions.items()))


def _own_version() -> str:
    from floe import __version__

    return __version__


_current: ClientContext | None = None


def current_context() -> ClientContext | None:
    """The context of `set_compute_context`."""
    return _current


def pick(context: ClientContext | None) -> ClientContext:
    """`context`, or the one that was set."""
    picked = context if context is not None else _current
    if picked is None:
        raise RuntimeError("no context: pass one, such as floe.Local(), or set one by floe.set_compute_context")
    return picked


class set_compute_context(ContextDecorator):  # noqa: N801 - a name of Polars Cloud
    """Set the context of queries that name none: for the session, a `with` block or a function.

    Examples
    --------
    >>> import floe, polars as pl
    >>> ctx = floe.Local(workers=1)
    >>> with floe.set_compute_context(ctx):
    ...     pl.LazyFrame({"a": [1, 2]}).sum().remote().show().item()
    3
    >>> ctx.close()
    """

    def __init__(self, context: ClientContext | None) -> None:
        global _current
        self._context = context
        self._before, _current = _current, context

    def __call__(self, func: _F) -> _F:
        """Only inside of the function."""
        global _current
        _current = self._before
        return super().__call__(func)

    def __enter__(self) -> None:
        global _current
        _current = self._context

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        global _current
        _current = self._before


def show_versions(context: ClientContext | None = None) -> None:
    """Print the versions of a context, or of the one that was set.

    Examples
    --------
    >>> import floe
    >>> with floe.Local(workers=1) as ctx:
    ...     floe.show_versions(ctx)  # doctest: +ELLIPSIS
    Floe (Python): ...
    """
    pick(context).show_versions()
