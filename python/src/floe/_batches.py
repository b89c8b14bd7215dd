"""Rows of a query as they come: batch by batch in Python, or as a stream of Arrow for other libraries."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import polars as pl

from floe import _arrow


class Batches(Iterator[pl.DataFrame]):
    """Rows of a query, batch by batch; other libraries take them as an Arrow stream."""

    _frames: Iterator[pl.DataFrame] | None

    def __init__(self, begin: Callable[[], Iterator[pl.DataFrame]], drop: Callable[[], None] | None = None) -> None:
        self._begin, self._drop, self._frames = begin, drop, None

    def __del__(self) -> None:
        # No row was ever requested.
        if self._frames is None and self._drop is not None:
            with contextlib.suppress(Exception):
                self._drop()

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> pl.DataFrame:
        if self._frames is None:
            self._frames = self._begin()
        return next(self._frames)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows that were not taken yet, each batch made when it is asked for."""
        first = next(self, None)
        if first is None:
            raise pl.exceptions.NoDataError(
                "the batches have all been taken: collect_batches() again gives another stream"
            )
        # A requested schema may be ignored: the consumer converts what it gets.
        return _arrow.stream(first, self)
