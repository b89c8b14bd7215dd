"""Progress while a query runs: bars in a terminal, a block in a notebook, nothing in a script."""

from __future__ import annotations

import importlib
import shutil
import sys
import threading
import time
from types import TracebackType
from typing import Any, Protocol

from floe import _html
from floe._report import QueryStatus, Report, Stage

#: Queries that end before this show nothing.
QUIET_SECONDS = 0.5
EVERY_SECONDS = 0.1
BAR = 20
#: Where the name of a status is no word.
_WORDS = {QueryStatus.INPROGRESS: "running", QueryStatus.CANCELED: "cancelled", QueryStatus.SCHEDULED: "planned"}


class Screen(Protocol):
    """Where progress is drawn."""

    def draw(self, report: Report, seconds: float) -> None:
        """Draws how far the query is, over what was drawn before."""
        ...

    def end(self, report: Report, seconds: float) -> None:
        """Leaves what is to stay."""
        ...


def screen(silent: bool | None) -> Screen | None:
    """Where to draw; nowhere when told to be silent, or when nobody looks. With `silent=False`, lines on stderr at least."""
    if silent:
        return None
    display = _notebook()
    if display is not None:
        return Notebook(display)
    if sys.stderr is not None and sys.stderr.isatty():
        return Terminal()
    return Lines() if silent is False else None


def _notebook() -> Any:
    """IPython's display module, inside of a kernel with a front end that shows HTML."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return importlib.import_module("IPython.display")


class Progress:
    """Draws a report that another part of the program keeps up to date, from a thread of its own."""

    def __init__(self, report: Report, silent: bool | None) -> None:
        self._report, self._screen = report, screen(silent)
        self._done, self._shown = threading.Event(), False
        self._began = time.monotonic()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        if self._screen is not None:
            self._thread = threading.Thread(target=self._draw, name="floe-progress", daemon=True)
            self._thread.start()
        return self

    def _draw(self) -> None:
        assert self._screen is not None
        if self._done.wait(QUIET_SECONDS):
            return
        while not self._done.is_set():
            self._shown = True
            self._screen.draw(self._report, time.monotonic() - self._began)
            self._done.wait(EVERY_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        if self._shown and self._screen is not None:
            self._screen.end(self._report, time.monotonic() - self._began)


def share(stage: Stage) -> float:
    """How much of a stage is done."""
    if stage.state == "done":
        return 1.0
    return stage.tasks_done / stage.tasks_total if stage.tasks_total else 0.0


def summary(report: Report, seconds: float | None) -> str:
    """A query in one line; without its time where nobody knows it."""
    done = sum(stage.state == "done" for stage in report.stages.values())
    words = [_WORDS.get(report.status, report.status.name.lower())]
    if report.stages:
        words.append(f"{done}/{len(report.stages)} stages")
    if report.ahead:
        words.append("1 query before it" if report.ahead == 1 else f"{report.ahead:,} queries before it")
    if report.outcome:
        words.append(_html.count(report.outcome.get("rows", 0), "row"))
        if shuffled := report.outcome.get("bytesShuffled"):
            words.append(f"{_html.size(shuffled)} shuffled")
    if seconds is not None:
        words.append(f"{seconds:.1f} s")
    return ", ".join(words)


def line(stage: Stage, width: int) -> str:
    """A stage in one line."""
    filled = round(BAR * share(stage))
    bar = "█" * filled + "░" * (BAR - filled)
    tail = f" {stage.tasks_done}/{stage.tasks_total} tasks, {stage.rows:,} rows, {_html.size(stage.bytes)}"
    label = f"{stage.id:>3} {bar}{tail}  {stage.label}"
    return label if len(label) < width else label[: width - 2] + "…"


class Terminal:
    """Bars on stderr, drawn over each other."""

    def __init__(self) -> None:
        self._lines = 0

    def draw(self, report: Report, seconds: float) -> None:
        width, height = shutil.get_terminal_size()
        stages = list(report.stages.values())
        # Those that run and wait, when not all fit.
        if len(stages) > height - 4:
            stages = [stage for stage in stages if stage.state != "done"][: height - 4]
        held_up = [f"  {' '.join(report.held_up.split())}"] if report.held_up else []
        below = [text[: width - 1] for text in (summary(report, seconds), *held_up)]
        self._put([line(stage, width) for stage in stages] + below)

    def end(self, report: Report, seconds: float) -> None:
        self._put([summary(report, seconds)])
        sys.stderr.write("\n")
        sys.stderr.flush()

    def _put(self, lines: list[str]) -> None:
        up = f"\r\x1b[{self._lines - 1}A" if self._lines > 1 else "\r"
        sys.stderr.write(f"{up}\x1b[J" + "\n".join(lines))
        sys.stderr.flush()
        self._lines = len(lines)


class Lines:
    """A line on stderr for each stage that ends, and for what holds the query up: for logs."""

    def __init__(self) -> None:
        self._told: set[int] = set()
        self._held_up: str | None = None

    def draw(self, report: Report, seconds: float) -> None:
        held_up = report.held_up
        if held_up and held_up != self._held_up:
            print(f"{summary(report, seconds)} ({held_up})", file=sys.stderr)
        self._held_up = held_up
        for stage in list(report.stages.values()):
            if stage.state == "done" and stage.id not in self._told:
                self._told.add(stage.id)
                print(f"stage {stage.id} done: {stage.label}, {stage.rows:,} rows", file=sys.stderr)

    def end(self, report: Report, seconds: float) -> None:
        self.draw(report, seconds)
        print(summary(report, seconds), file=sys.stderr)


class Notebook:
    """A block of HTML that is replaced as the query goes on."""

    def __init__(self, display: Any) -> None:
        self._display, self._handle = display, None

    def draw(self, report: Report, seconds: float) -> None:
        block = self._display.HTML(html(report, seconds))
        if self._handle is None:
            self._handle = self._display.display(block, display_id=True)
        else:
            self._handle.update(block)

    def end(self, report: Report, seconds: float) -> None:
        self.draw(report, seconds)


def html(report: Report, seconds: float | None) -> str:
    """The block of a query: its stages with rows and bytes, workers and time."""
    stages = "".join(_row(stage) for stage in list(report.stages.values()))
    heads = zip(("stage", "", "tasks", "rows", "bytes", "time", ""), _ALIGN, strict=True)
    head = "".join(f'<th style="{_CELL};text-align:{align};opacity:.7">{name}</th>' for name, align in heads)
    table = f'<table style="{_html.TABLE}"><tr style="{_html.ROW}">{head}</tr>{stages}</table>' if stages else ""
    workers = f", {_html.count(len(report.workers), 'worker')}" if report.workers else ""
    style = f"margin-bottom:{4 if stages else 0}px;color:{_html.color(report.status.name)}"
    line = f'<div style="{style}">{_html.text(summary(report, seconds) + workers)}</div>'
    held_up = f'<div style="margin-bottom:4px">{_html.text(report.held_up)}</div>' if report.held_up else ""
    return _html.card("Floe query", line, held_up, table)


_CELL = "padding:1px 10px 1px 0;border:none;white-space:nowrap"
_ALIGN = ("left", "left", "right", "right", "right", "right", "left")
#: A label of any length leaves the block as wide as it is.
_LABEL = "display:block;max-width:26em;overflow:hidden;text-overflow:ellipsis"


def _row(stage: Stage) -> str:
    """A stage in one row. What is not known yet is left out, not 0."""
    begun = stage.state != "waiting"
    label = _html.text(stage.label)
    values = (
        str(stage.id),
        _html.bar(share(stage), stage.state),
        f"{stage.tasks_done}/{stage.tasks_total}" if stage.tasks_total else "",
        f"{stage.rows:,}" if begun else "",
        _html.size(stage.bytes) if begun else "",
        f"{stage.elapsed_ms / 1000:.1f} s" if begun and stage.elapsed_ms is not None else "",
        f'<span style="{_LABEL}" title="{label}">{label}</span>',
    )
    cells = zip(values, _ALIGN, strict=True)
    row = "".join(f'<td style="{_CELL};text-align:{align}">{value}</td>' for value, align in cells)
    return f'<tr style="{_html.ROW}">{row}</tr>'
