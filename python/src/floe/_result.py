"""What became of a query."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any, Literal, overload

import polars as pl
from polars.exceptions import InvalidOperationError

from floe import _html
from floe._dst import TableDst
from floe._graph import FIGURE
from floe._report import QueryStatus, Report, Stage
from floe.exceptions import ResultGoneError

if TYPE_CHECKING:
    from floe._query import DirectQuery, PlanType

HEAD_ROWS = 10

_FORMATS = {
    ".parquet": "parquet",
    ".arrow": "ipc",
    ".ipc": "ipc",
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
}
FileType = Literal["none", "unknown", "parquet", "ipc", "csv", "ndjson", "json", "delta", "iceberg"]


@dataclasses.dataclass(frozen=True)
class StageStatistics:
    """A stage that has ended.

    Examples
    --------
    >>> import floe, polars as pl
    >>> lf = pl.LazyFrame({"k": [1, 2, 1]}).group_by("k").agg(pl.len())
    >>> with floe.Local(workers=2) as ctx:
    ...     [stage.rows for stage in lf.remote(ctx).distributed().execute().stage_statistics()][-1]
    2
    """

    label: str
    tasks: int
    attempts: int
    rows: int
    bytes: int
    elapsed_ms: int
    #: Workers at most: no more than it had tasks.
    num_workers_used: int


class QueryResult:
    """The result of a query: its first rows, how it went, and all its rows by `lazy()`.

    Examples
    --------
    >>> import floe, polars as pl
    >>> with floe.Local(workers=1) as ctx:
    ...     result = pl.LazyFrame({"a": [1, 2, 3]}).remote(ctx).execute()
    ...     result.n_rows_total, result.lazy().select(pl.col("a").sum()).collect().item()
    (3, 6)
    """

    def __init__(self, query: DirectQuery, report: Report) -> None:
        self._query, self._report = query, report
        self._head: pl.DataFrame | None = None
        self._rows: pl.DataFrame | None = None
        self._deleted = False

    @property
    def status(self) -> QueryStatus:
        """How the query ended."""
        return self._report.status

    @property
    def _outcome(self) -> dict[str, Any]:
        return self._report.outcome or {}

    @property
    def head(self) -> pl.DataFrame | None:
        """The first ten rows of the result; nothing when they went to a sink."""
        kept = self._query._execution.location is not None
        if self._head is None and not self._deleted and self._report.phase == "Succeeded":
            if kept or not self._outcome.get("sinkUri"):
                self._head = self._query._frame(HEAD_ROWS)
        return self._head

    @property
    def n_rows_total(self) -> int | None:
        """Rows of the result."""
        return self._outcome.get("rows")

    @property
    def total_stages(self) -> int:
        """Stages of the plan."""
        return len(self._report.stages)

    @property
    def failed_stages(self) -> int:
        """Stages that failed."""
        return sum(stage.state == "failed" for stage in self._report.stages.values())

    @property
    def finished_stages(self) -> int:
        """Stages that ended well."""
        return sum(stage.state == "done" for stage in self._report.stages.values())

    @property
    def location(self) -> list[str] | None:
        """Where the rows are: the files of the context, or what was written to."""
        if self._query._execution.location is not None:
            return list(self._query._execution.location)
        uri = self._outcome.get("sinkUri")
        return [uri] if uri else None

    @property
    def file_type(self) -> FileType:
        """The format of the files at `location`."""
        location = self.location
        if not location:
            return "none"
        if self._query._execution.location is not None:
            return "ipc"
        if isinstance(self._query._dst, TableDst):
            return self._query._dst._format  # type: ignore[return-value]
        if self._query._dst is not None and self._query._dst._kind is not None:
            # A directory's name tells nothing.
            return self._query._dst._kind  # type: ignore[return-value]
        return _FORMATS.get(pathlib.PurePosixPath(location[0]).suffix, "unknown")  # type: ignore[return-value]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the query told beside its rows."""
        return self._report.warnings

    @property
    def single_worker(self) -> tuple[str, ...]:
        """Nodes of the plan that ran on one worker, and why."""
        return self._report.single_worker

    @overload
    def stage_statistics(self, stage_number: None = None) -> list[StageStatistics]: ...

    @overload
    def stage_statistics(self, stage_number: int) -> StageStatistics | None: ...

    def stage_statistics(self, stage_number: int | None = None) -> list[StageStatistics] | StageStatistics | None:
        """Return the statistics of a stage, or of all in order."""
        stages = self._report.stages
        if stage_number is None:
            return [self._statistics(stages[id]) for id in sorted(stages) if stages[id].state == "done"]
        stage = stages.get(stage_number)
        return None if stage is None or stage.state != "done" else self._statistics(stage)

    def _statistics(self, stage: Stage) -> StageStatistics:
        workers = min(stage.tasks_total, len(self._report.workers) or stage.tasks_total)
        return StageStatistics(
            stage.label, stage.tasks_total, stage.attempts, stage.rows, stage.bytes, stage.elapsed_ms or 0, workers
        )

    def lazy(self) -> pl.LazyFrame:
        """Convert the result into a `LazyFrame`.

        Files are scanned: those that a sink wrote, and those in which `floe.Local` keeps results. On a cluster, rows
        without a sink are with the query's coordinator: all of them are read into this process, once. Large ones are for
        `collect_batches`, or for a sink whose result is then scanned.
        """
        if self._deleted:
            raise InvalidOperationError("cannot create a 'LazyFrame', this result has been deleted")
        if self.status != QueryStatus.SUCCESS:
            raise InvalidOperationError("a query must be successful to convert it to a 'LazyFrame'")
        location = self.location
        if location:
            kind = self.file_type
            if kind == "iceberg":
                raise InvalidOperationError(
                    f"the rows are in the Iceberg table {location[0]}: give pl.scan_iceberg its newest metadata file"
                )
            if kind == "unknown":
                raise InvalidOperationError(
                    f"the rows are in {location[0]}: scan its files by pl.scan_parquet or its kin"
                )
            reading = {} if self._query._dst is None else self._query._dst._reading()
            # A directory by itself, as Polars finds its partitions only then.
            one_or_more = location[0] if len(location) == 1 else location
            scanned: pl.LazyFrame = getattr(pl, f"scan_{kind}")(one_or_more, **reading)
            return scanned
        if self._rows is None:
            self._rows = self._query._frame()
        return self._rows.lazy()

    def raise_err(self) -> None:
        """Raise the error of a query that failed; nothing if it did not."""
        if self._report.error is not None:
            raise self._query._error(self._report)

    def graph(
        self,
        plan_type: PlanType = "physical",
        *,
        show: bool = True,
        output_path: str | pathlib.Path | None = None,
        raw_output: bool = False,
        figsize: tuple[float, float] = FIGURE,
    ) -> str | None:
        """Return or draw the stages of the query: see `DirectQuery.graph`."""
        return self._query.graph(plan_type, show=show, output_path=output_path, raw_output=raw_output, figsize=figsize)

    def plan(self, plan_type: PlanType = "physical") -> str:
        """Return the plan as text: see `DirectQuery.plan`."""
        return self._query.plan(plan_type)

    def delete(self) -> None:
        """Delete the rows, and what is remembered of the query. What a sink wrote stays."""
        if self._deleted:
            raise InvalidOperationError("this result has already been deleted")
        self._deleted = True
        self._rows = None
        self._query._delete()

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"status": self.status}
        facts |= {"stages": f"{self.finished_stages}/{self.total_stages}"}
        if self.n_rows_total is not None:
            facts["rows"] = f"{self.n_rows_total:,}"
        if "durationMs" in self._outcome:
            facts["time"] = f"{self._outcome['durationMs'] / 1000:.2f} s"
        if self._outcome.get("bytesShuffled"):
            facts["shuffled"] = _html.size(self._outcome["bytesShuffled"])
        if uri := self._outcome.get("sinkUri"):
            facts["location"] = uri if self._query._execution.location is None else "files of the context"
        if self._report.error is not None:
            facts["error"] = f"{self._report.error.get('class')}: {self._report.error.get('message')}"
        return facts

    def _shown(self) -> pl.DataFrame | None:
        try:
            return self.head
        except ResultGoneError:
            return None

    def __repr__(self) -> str:
        head = self._shown()
        lines = [f"{name}: {value}" for name, value in self._facts().items()]
        if head is not None:
            with pl.Config(tbl_hide_dataframe_shape=True):
                lines += ["head:", repr(head)]
        return "QueryResult\n" + "\n".join(lines)

    def _repr_html_(self) -> str:
        head = self._shown()
        rows = ""
        if head is not None:
            with pl.Config(tbl_hide_dataframe_shape=True):
                rows = f'<div style="margin-top:8px">{head._repr_html_()}</div>'
        return _html.card("QueryResult", _html.table(self._facts()), rows)
