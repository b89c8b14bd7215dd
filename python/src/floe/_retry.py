"""How long a connection that broke is tried again: pauses that grow, within a time that begins anew with every sign of life."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from floe.exceptions import ConnectionLostError, ContextError

_T = TypeVar("_T")

#: How long the other side may fail to answer without interruption.
SECONDS = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
#: After a break that follows another one within CALM_SECONDS, wait longer, at most STORM_PAUSE, even if something came
#: through in between.
CALM_SECONDS, STORM_PAUSE = 10.0, 0.5


class Patience:
    """Counts the time since the other side was last heard of.

    >>> patience = Patience(0.0)
    >>> patience.wait(ConnectionLostError("cut"))
    Traceback (most recent call last):
        ...
    floe.exceptions.ConnectionLostError: cut
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = SECONDS if seconds is None else seconds
        self._pause, self._since, self._last = 0.0, 0.0, 0.0
        self._waits = False

    def heard(self) -> None:
        """The other side answers: the time begins anew."""
        self._waits = False

    def wait(self, error: ConnectionLostError) -> None:
        """Waits a moment before the next try; raises `error` once there is no time left."""
        now = time.monotonic()
        longest = LONGEST_PAUSE if self._waits else STORM_PAUSE
        if not self._waits:
            self._waits, self._since = True, now
        left = self._since + self._seconds - now
        if left <= 0:
            raise error
        calm = now - self._last > CALM_SECONDS
        self._pause = FIRST_PAUSE if calm else min(2 * self._pause, longest)
        time.sleep(min(self._pause, left))
        self._last = time.monotonic()


def patiently(call: Callable[[], _T]) -> _T:
    """The answer of a call that may be repeated."""
    patience = Patience()
    while True:
        try:
            return call()
        except ConnectionLostError as error:
            patience.wait(error)


@contextlib.contextmanager
def goes_on(id: str, does: str) -> Iterator[None]:
    """Errors of this process' way to a query say what becomes of the query, and how to find it again."""
    try:
        yield
    except ContextError as error:
        again = f"query({id!r}) of its context takes it up again"
        raise type(error)(f"{error}; query {id} {does}: {again}") from error
