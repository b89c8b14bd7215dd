"""A query that a context's coordinator was given over an open connection: it is no object of the cluster, and nobody keeps
anything of it but the coordinator."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl

from floe._http import Coordinator
from floe._report import Report
from floe._request import Execution
from floe._retry import goes_on


class DirectExecution(Execution):
    """A query of a coordinator."""

    def __init__(self, coordinator: Coordinator, id: str) -> None:
        self.id, self.report = id, Report()
        self._coordinator = coordinator

    def refresh(self) -> Report:
        self.report = self._coordinator.report(self.id)
        return self.report

    def watch(self, tell: Callable[[Report], None]) -> Report:
        with goes_on(self.id, "runs on"):
            return self._coordinator.watch(self.id, self.report, tell)

    def cancel(self) -> None:
        self._coordinator.forget(self.id)

    def forget(self) -> None:
        self._coordinator.forget(self.id)

    def explain(self, format: str) -> str:
        return self._coordinator.explain(self.id, format)

    def frame(self, rows: int | None = None) -> pl.DataFrame:
        with goes_on(self.id, "keeps its rows"):
            return self._coordinator.frame(self.id, rows)

    def batches(self) -> Iterator[pl.DataFrame]:
        with goes_on(self.id, "keeps its rows"):
            yield from self._coordinator.batches(self.id)
