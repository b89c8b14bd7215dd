"""`floe.partitions`: a source of one's own that is read in parts, by all workers at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl
from polars.io.plugins import register_io_source

if TYPE_CHECKING:
    from polars._typing import SchemaDict

Part = TypeVar("Part")


def partitions(
    io_source: Callable[[Part, list[str] | None, pl.Expr | None, int | None, int | None], Iterator[pl.DataFrame]],
    parts: Iterable[Part],
    *,
    schema: SchemaDict | Callable[[], SchemaDict],
    **arguments: Any,
) -> pl.LazyFrame:
    """A scan of a source in Python that can be read in parts.

    Each part is a task of its own, so that all workers read. The rows come in the order of the parts.

    Parameters
    ----------
    io_source
        As `polars.io.plugins.register_io_source` takes it, with the part as the argument before all others:
        `io_source(part, with_columns, predicate, n_rows, batch_size)` gives frames.
    parts
        What tells the parts apart: names of files, ranges of days or of keys. They travel with the plan.
    schema
        The schema of the source, or a function that gives it.
    **arguments
        Further arguments of `register_io_source`.

    >>> import floe
    >>> def squares(part, with_columns, predicate, n_rows, batch_size):
    ...     frame = pl.DataFrame({"n": part}).with_columns(square=pl.col("n") ** 2)
    ...     yield frame if with_columns is None else frame.select(with_columns)
    >>> floe.partitions(squares, [[1, 2], [3]], schema={"n": pl.Int64, "square": pl.Int64}).collect().rows()
    [(1, 1), (2, 4), (3, 9)]
    """
    scans = [
        register_io_source(functools.partial(io_source, part), schema=schema, **arguments)
        for part in parts
    ]
    if not scans:
        raise ValueError("parts: name at least one")
    return pl.concat(scans, how="vertical")
