"""A query that is only planned: it reads and writes nothing, and shows what would be done."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Literal

import polars as pl

from floe._context import ClientContext
from floe._query import DirectQuery
from floe._report import Report
from floe._request import Execution, Request
from floe.exceptions import ResultGoneError


def planned(context: ClientContext, lf: pl.LazyFrame, asked: Request, until: Literal["physical", "ir"]) -> DirectQuery:
    """Plans a query as far as it is said; what is wrong with it so far is raised at once."""
    execution = PlannedExecution(context, asked)
    query = DirectQuery(execution, lambda: lf.explain(engine="streaming"))
    if until == "ir":
        query.plan("ir")
    else:
        execution.refresh()
    return query


class PlannedExecution(Execution):
    """A query that has ended where others begin."""

    def __init__(self, context: ClientContext, asked: Request) -> None:
        self.id, self.report = f"planned-{uuid.uuid4()}", Report(phase="Succeeded")
        self._context, self._asked = context, asked

    def refresh(self) -> Report:
        if not self.report.stages:
            self.report.planned(json.loads(self.explain("json")))
            self.report.phase = "Succeeded"
        return self.report

    def watch(self, tell: Callable[[Report], None]) -> Report:
        return self.report

    def cancel(self) -> None:
        return None

    def forget(self) -> None:
        return None

    def explain(self, format: str) -> str:
        return self._context._explain(self._asked, format)

    def frame(self, rows: int | None = None) -> pl.DataFrame:
        raise ResultGoneError("the query was only planned (execute_until): it has no rows")

    def batches(self) -> Iterator[pl.DataFrame]:
        raise ResultGoneError("the query was only planned (execute_until): it has no rows")
