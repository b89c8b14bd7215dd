"""A query that was started: its status, its end, its stages."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Literal

import polars as pl

from floe import _graph, _html
from floe._dst import Dst
from floe._graph import FIGURE
from floe._http import cancelled
from floe._options import ignored
from floe._progress import Progress, html
from floe._report import QueryStatus, Report
from floe._request import Execution
from floe._result import QueryResult
from floe._warn import warn
from floe.exceptions import ConnectionLostError, FloeError, QueryWarning, ResultGoneError, error_of

PlanType = Literal["physical", "ir"]


class DirectQuery:
    """A query that runs or has run. `execute(blocking=False)`, `spawn` and the sinks of `remote` give one.

    Examples
    --------
    >>> import floe, polars as pl
    >>> with floe.Local(workers=1) as ctx:
    ...     query = pl.LazyFrame({"a": [1, 2, 3]}).sum().remote(ctx).execute(blocking=False)
    ...     query.await_result().head.item()
    6
    """

    def __init__(self, execution: Execution, ir: Callable[[], str]) -> None:
        self._execution, self._ir = execution, ir
        self._lock = threading.Lock()
        self._deleted = self._warned = False
        #: Where a sink of `remote` writes, and how.
        self._dst: Dst | None = None

    @property
    def id(self) -> str:
        """The query's id."""
        return self._execution.id

    def get_status(self) -> QueryStatus:
        """Get the current status of the query."""
        return self._refreshed().status

    @property
    def held_up(self) -> str | None:
        """What a query of a cluster waits for, as the operator says it (`"ImagePull: …"`); none when nothing holds it up."""
        return self._refreshed().held_up

    def _refreshed(self) -> Report:
        report = self._execution.report
        # Whoever waits for the end keeps the report up to date.
        if report.ended or self._deleted or self._lock.locked():
            return report
        return self._execution.refresh()

    def _wait(self, silent: bool | None = None) -> Report:
        """Blocks until the end. Whatever interrupts it cancels the query."""
        execution = self._execution
        with self._lock:
            if not execution.report.ended:
                if self._deleted:
                    raise ResultGoneError(f"query {self.id} was deleted")
                try:
                    with Progress(execution.report, silent):
                        execution.watch(lambda _: None)
                except Exception as error:
                    self._named(error)
                    raise
                except BaseException:
                    # Ctrl-C, above all. A second one gets through.
                    with contextlib.suppress(Exception):
                        execution.cancel()
                    raise
        self._tell_warnings(execution.report)
        return execution.report

    def _named(self, error: BaseException) -> None:
        """Puts the query's id into an error."""
        if isinstance(error, FloeError):
            error.query_id = error.query_id or self.id

    def _tell_warnings(self, report: Report) -> None:
        if not self._warned:
            self._warned = True
            for text in report.warnings:
                warn(text, QueryWarning)

    def _succeed(self, silent: bool | None = None) -> Report:
        """Blocks until the end, and raises if that is no success."""
        report = self._wait(silent)
        if report.error is not None:
            # Whoever gets the error has nothing to delete the query by.
            self._let_go()
            raise self._error(report)
        return report

    def _error(self, report: Report) -> BaseException:
        assert report.error is not None
        if report.phase == "Cancelled":
            return cancelled(self.id)
        return error_of(report.error, self.id)

    def await_result(self, *, raise_on_failure: bool = True, silent: bool | None = None) -> QueryResult:
        """Block the current thread until the query has ended, and get its result.

        Parameters
        ----------
        raise_on_failure
            Raise the error of a query that failed. A query that was cancelled gives a result whose status says so.
        silent
            Show no progress (`True`), or show it even where nobody seems to look (`False`).
        """
        report = self._wait(silent)
        result = QueryResult(self, report)
        if raise_on_failure and report.phase == "Failed":
            result.raise_err()
        return result

    async def await_result_async(self, *, raise_on_failure: bool = True, silent: bool | None = True) -> QueryResult:
        """Await the end of the query, and get its result. Cancelling the task cancels the query."""
        waiting = asyncio.get_running_loop().run_in_executor(
            None, lambda: self.await_result(raise_on_failure=raise_on_failure, silent=silent)
        )
        try:
            return await waiting
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                self.cancel()
            raise

    def cancel(self) -> None:
        """Cancel the execution of the query. A query that has ended stays as it is."""
        if not self._refreshed().ended and not self._deleted:
            self._execution.cancel()

    def delete_result(self) -> None:
        """Delete the rows of the query, and what is remembered of it."""
        self._delete()

    def _delete(self) -> None:
        if not self._deleted:
            self._deleted = True
            self._execution.forget()

    def _let_go(self) -> None:
        """Deletes a query that has given what it had: if that fails, it is no failure of the query's."""
        try:
            self._delete()
        except FloeError as error:
            warn(f"query {self.id} is not deleted: {error}; on a cluster its time to live ends it", QueryWarning)

    @contextlib.contextmanager
    def _handed_over(self) -> Iterator[None]:
        """Deletes the query once its rows are read, or nobody is there to read them. One that a lost connection leaves behind
        stays, with its rows, to be taken up again."""
        try:
            yield
        except ConnectionLostError as error:
            self._named(error)
            raise
        except BaseException as error:
            self._named(error)
            with contextlib.suppress(FloeError):
                self._delete()
            raise
        self._let_go()

    def _frame(self, rows: int | None = None) -> pl.DataFrame:
        if self._deleted:
            raise ResultGoneError(f"the result of query {self.id} was deleted")
        return self._execution.frame(rows)

    def _batches(self) -> Iterator[pl.DataFrame]:
        return self._execution.batches()

    def graph(
        self,
        plan_type: PlanType = "physical",
        *,
        show: bool = True,
        output_path: str | pathlib.Path | None = None,
        raw_output: bool = False,
        figsize: tuple[float, float] = FIGURE,
    ) -> str | None:
        """Return or draw the stages of the query.

        Parameters
        ----------
        plan_type : {'physical', 'ir'}
            The stages. Only `plan` has the optimized plan before it was cut (`'ir'`).
        show
            Show the picture in a notebook; elsewhere, return it as SVG.
        output_path
            Write it: a name that ends in `.svg` needs no Graphviz, `.dot` gets its language.
        raw_output
            Return DOT, Graphviz' language.
        figsize
            Means nothing: a picture is as large as its graph.
        """
        if figsize != FIGURE:
            ignored("figsize", "a picture is as large as its graph")
        if plan_type != "physical":
            raise ValueError(f"plan_type: there is a graph of 'physical' only; plan({plan_type!r}) has the text")
        if raw_output:
            return self._execution.explain("dot")
        picture = _graph.svg(self._execution.report.stages or self._execution.refresh().stages)
        if output_path is not None:
            path = pathlib.Path(output_path)
            if path.suffix not in (".svg", ".dot"):
                raise ValueError(
                    f"output_path: {path.name} must end in .svg or .dot; Graphviz makes other formats of .dot"
                )
            path.write_text(picture if path.suffix == ".svg" else self._execution.explain("dot"))
            return None
        if show and (display := _display()) is not None:
            display(picture)
            return None
        return picture

    def plan(self, plan_type: PlanType = "physical") -> str:
        """Return the plan as text.

        Parameters
        ----------
        plan_type : {'physical', 'ir'}
            The stages as they were run, or the plan as Polars of this process optimizes it.
        """
        if plan_type == "ir":
            return self._ir()
        if plan_type != "physical":
            raise ValueError(f"plan_type: {plan_type!r} is neither 'physical' nor 'ir'")
        return self._execution.explain("text")

    def __repr__(self) -> str:
        report = self._refreshed()
        held_up = f", held_up={report.held_up!r}" if report.held_up else ""
        return f"DirectQuery(id={self.id}, status={report.status}{held_up})"

    def _repr_html_(self) -> str:
        report = self._refreshed()
        took = (report.outcome or {}).get("durationMs")
        if took is None:
            took = max((stage.elapsed_ms or 0 for stage in report.stages.values()), default=0)
        id = f'<div style="font:11px sans-serif;opacity:.7">{_html.text(self.id)}</div>'
        return html(report, took / 1000 if took else None) + id


#: There is one kind of query, however it gets to where it runs.
ProxyQuery = DirectQuery


def _display() -> Callable[[str], None] | None:
    from floe._progress import _notebook

    display = _notebook()
    return None if display is None else lambda picture: display.display(display.SVG(picture))
