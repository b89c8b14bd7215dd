"""Progress: bars in a terminal, HTML in a notebook, nothing in a script."""

from __future__ import annotations

import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import time

import polars as pl
import pytest

import floe
from floe import _progress
from floe._report import Report

SOURCE = pathlib.Path(floe.__file__).parents[1]
SLOW = """
import floe, polars as pl
ctx = floe.Local(workers=2)
side = pl.LazyFrame({"a": range(%d)})
pairs = side.join(side.rename({"a": "b"}), how="cross").filter((pl.col("a") * pl.col("b") %% 7919) == -1)
print(pairs.select(pl.len()).remote(ctx).distributed().collect().item())
"""


@pytest.fixture
def report():
    report = Report()
    stages = [{"id": 0, "label": "scan <orders>", "tasks": 4}, {"id": 1, "label": "sort", "deps": [0], "tasks": None}]
    report.planned({"stages": stages})
    report.progress({"id": 0, "state": "running", "tasksDone": 2, "tasksTotal": 4, "rows": 1500, "bytes": 2048})
    return report


def test_lines(report):
    assert _progress.line(report.stages[0], 120) == "  0 ██████████░░░░░░░░░░ 2/4 tasks, 1,500 rows, 2.0 KiB  scan <orders>"
    assert len(_progress.line(report.stages[0], 40)) == 39
    assert _progress.summary(report, 1.26) == "running, 0/2 stages, 1.3 s"
    report.done({"rows": 1, "bytesShuffled": 4096, "stages": []})
    assert _progress.summary(report, 2) == "success, 0/2 stages, 1 row, 4.0 KiB shuffled, 2.0 s"
    assert _progress.summary(Report(phase="Pending", ahead=1), 0.61) == "queued, 1 query before it, 0.6 s"


HELD_UP = "ImagePull: pod q-1-c cannot pull floe:9: <not\nfound>"


@pytest.fixture
def waiting():
    return Report(phase="Starting", ahead=2, held_up=HELD_UP)


def test_what_holds_a_query_up_is_shown_until_nothing_does(waiting, capsys):
    assert "ImagePull: pod q-1-c cannot pull floe:9: &lt;not" in _progress.html(waiting, 1.0)
    terminal = _progress.Terminal()
    terminal.draw(waiting, 1.0)
    terminal.draw(waiting, 2.0)
    # Each on a line of its own, so that the next drawing knows how many to go up.
    line = "ImagePull: pod q-1-c cannot pull floe:9: <not found>"
    drawn = [f"queued, 2 queries before it, {n}.0 s\n  {line}" for n in (1, 2)]
    assert capsys.readouterr().err == f"\r\x1b[J{drawn[0]}\r\x1b[1A\x1b[J{drawn[1]}"
    lines = _progress.Lines()
    for seconds in (1.0, 2.0):
        lines.draw(waiting, seconds)
    waiting.held_up = None
    lines.draw(waiting, 3.0)
    assert capsys.readouterr().err == f"queued, 2 queries before it, 1.0 s ({HELD_UP})\n"
    assert "ImagePull" not in _progress.html(waiting, 4.0)


def test_html_escapes_what_it_shows(report):
    block = _progress.html(report, 1.0)
    assert "scan &lt;orders&gt;" in block and "<orders>" not in block and "1,500" in block
    # Of the stage that waits nothing is known but its name.
    waiting = re.search(r"<tr[^>]*><td[^>]*>1</td>.*?</tr>", block)[0]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", waiting) == ["1", "", "", "", ""] and ">sort</span>" in waiting


def slow_rows() -> int:
    """Pairs of so many rows take some seconds on any machine."""
    return 15_000


def test_a_script_is_silent():
    done = subprocess.run(
        [sys.executable, "-c", SLOW % slow_rows()],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_terminal_has_bars_that_are_taken_away():
    main, side = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW % slow_rows()],
        stdout=subprocess.PIPE, stderr=side, env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    os.close(side)
    told, until = b"", time.monotonic() + 120
    while time.monotonic() < until:
        if select.select([main], [], [], 0.2)[0]:
            try:
                part = os.read(main, 65536)
            except OSError:
                break
            if not part:
                break
            told += part
        elif child.poll() is not None:
            break
    os.close(main)
    assert child.communicate(timeout=30)[0] == b"0\n"
    text = told.decode()
    assert re.search(r" 0 [█░]{20} \d+/\d+ tasks", text), text
    # The last drawing is one line, over all that was there.
    assert re.search(r"\x1b\[J[^\n\x1b]*success, \d+/\d+ stages, 1 row,.*\n$", text.replace("\r\n", "\n")), text


def test_asked_for_lines_come_without_a_terminal(ctx, capsys):
    side = pl.LazyFrame({"a": range(slow_rows())})
    pairs = side.join(side.rename({"a": "b"}), how="cross").filter((pl.col("a") * pl.col("b") % 7919) == -1)
    pairs.select(pl.len()).remote(ctx).distributed().execute(silent=False)
    told = capsys.readouterr().err
    assert "stage 0 done" in told and "success" in told


def test_a_notebook_has_a_block_that_is_replaced(report, monkeypatch):
    shown = []

    class Handle:
        def update(self, block):
            shown.append(block)

    class Display:
        HTML = staticmethod(lambda text: text)

        @staticmethod
        def display(block, display_id):
            shown.append(block)
            return Handle()

    monkeypatch.setattr(_progress, "_notebook", lambda: Display)
    monkeypatch.setattr(_progress, "QUIET_SECONDS", 0.01)
    with _progress.Progress(report, None):
        time.sleep(0.3)
        report.done({"rows": 7, "stages": []})
    assert len(shown) >= 2 and "running" in shown[0] and "success" in shown[-1]
    assert _progress.screen(True) is None


def test_everything_has_html(ctx, staged):
    query = staged.remote(ctx).distributed().execute(blocking=False)
    assert "Floe query" in query._repr_html_()
    result = query.await_result()
    for block in (query._repr_html_(), result._repr_html_(), ctx._repr_html_()):
        assert block.startswith("<div") and block.count("<div") == block.count("</div>")
