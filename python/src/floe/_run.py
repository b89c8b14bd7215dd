"""From a LazyFrame and settings to a query of a context."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import polars as pl

from floe import _plan
from floe._context import ClientContext
from floe._options import Settings
from floe._query import DirectQuery
from floe._request import Request


def request(lf: pl.LazyFrame, settings: Settings, optimizations: pl.QueryOptFlags, *, keep: bool = False) -> Request:
    """What the context is asked to run."""
    _plan.check_optimizations(optimizations)
    return Request(
        plan=_plan.serialize(lf),
        execution=settings.execution(),
        labels=settings.labels,
        priority=settings.priority,
        min_workers=settings.min_workers,
        max_workers=settings.max_workers,
        sinks=_plan.ends_in_sinks(lf),
        keep=keep,
    )


def start(context: ClientContext, lf: pl.LazyFrame, asked: Request) -> DirectQuery:
    """Starts a query; returns at once."""
    return DirectQuery(context._submit(asked), lambda: lf.explain(engine="streaming"))


def collect(
    context: ClientContext,
    lf: pl.LazyFrame,
    settings: Settings,
    optimizations: pl.QueryOptFlags,
    silent: bool | None = None,
) -> pl.DataFrame:
    """Runs a query to its end and reads all of its rows."""
    asked = request(lf, settings, optimizations)
    return rows_of(start(context, lf, asked), asked, silent)


def rows_of(query: DirectQuery, asked: Request, silent: bool | None = None) -> pl.DataFrame:
    """Waits for a query and reads all of its rows, which go with it. A plan that wrote its rows itself has none."""
    query._succeed(silent)
    with query._handed_over():
        return pl.DataFrame() if asked.sinks else query._frame()


def batches(query: DirectQuery, chunk_rows: int | None, silent: bool | None = None) -> Iterator[pl.DataFrame]:
    """The rows of a query in order, as they are read; no more than a batch is held. The query goes when all is read, or
    when nobody reads on."""
    with query._handed_over():
        query._succeed(silent)
        frames = query._batches()
        yield from frames if chunk_rows is None else _cut(frames, chunk_rows)


def _cut(frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows, `rows` at a time."""
    if rows < 1:
        raise ValueError(f"chunk_size: {rows} is below 1")
    held: pl.DataFrame | None = None
    given = False
    for frame in frames:
        held = frame if held is None else pl.concat([held, frame], rechunk=False)
        while held.height >= rows:
            given = True
            yield held.head(rows)
            held = held.slice(rows)
    if held is not None and (held.height or not given):
        yield held


def with_sink(asked: Request, keep: bool) -> Request:
    """The same query, with its rows kept as files or not."""
    return dataclasses.replace(asked, keep=keep)
