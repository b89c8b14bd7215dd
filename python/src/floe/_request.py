"""What a context is asked to run, and what it gives back: the seam between queries and where they run."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import polars as pl

from floe._report import Report


@dataclasses.dataclass(frozen=True)
class Request:
    """One query, as any context takes it."""

    #: The bytes of `LazyFrame.serialize()`; none for SQL.
    plan: bytes = b""
    #: The fields of `spec` of a SQL query: `plan`, `tables`, `views`, `params`.
    sql: Mapping[str, Any] | None = None
    name: str = "query"
    #: Fields of `spec.execution`.
    execution: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    #: Where the rows are written if the plan does not say; without it they stay with the query.
    sink: Mapping[str, Any] | None = None
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    priority: int = 0
    min_workers: int | None = None
    max_workers: int | None = None
    #: Whether the plan ends in its own sinks.
    sinks: bool = False
    #: Whether to keep the rows as files that other queries can scan, if the context has a place for them.
    keep: bool = False

    def spec(self) -> dict[str, Any]:
        """The fields of `spec` that do not hang on the context."""
        spec: dict[str, Any] = dict(self.sql or {})
        if self.execution:
            spec["execution"] = dict(self.execution)
        if self.sink is not None:
            spec["sink"] = dict(self.sink)
        if self.labels:
            spec["labels"] = dict(self.labels)
        if self.priority:
            spec["priority"] = self.priority
        return spec


class Execution(ABC):
    """A query that a context has taken in."""

    id: str
    #: The query's last report.
    report: Report
    #: Where the rows are, as files that this process can read.
    location: list[str] | None = None

    @abstractmethod
    def refresh(self) -> Report:
        """Asks where the query is."""

    @abstractmethod
    def watch(self, tell: Callable[[Report], None]) -> Report:
        """Blocks until the query has ended; `tell` is called with what is new."""

    @abstractmethod
    def cancel(self) -> None:
        """Asks the query to stop; does not wait for it."""

    @abstractmethod
    def forget(self) -> None:
        """Lets go of a query that has ended, with its rows and files."""

    @abstractmethod
    def explain(self, format: str) -> str:
        """The stages: `text`, `json`, `dot` or `mermaid`."""

    @abstractmethod
    def frame(self, rows: int | None = None) -> pl.DataFrame:
        """The rows of a query without a sink, or the first of them."""

    @abstractmethod
    def batches(self) -> Iterator[pl.DataFrame]:
        """The same, batch by batch as they come; at least one frame."""
