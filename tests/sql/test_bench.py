"""The benchmark's table of the texts as SQL."""

from __future__ import annotations

import json
import pathlib

from bench import report

RESULTS = pathlib.Path(__file__).parents[2] / "bench" / "results"


def test_planning_is_told_for_each_query():
    results = json.loads((RESULTS / "sql-sf10.json").read_text())
    head, _, *lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in report.table(results).splitlines()]
    at = head.index("of it planning")
    planned = [entry["planning"][results["measured"]] for entry in results["queries"].values()]
    assert len(planned) == 22
    assert [line[at] for line in lines] == [*(f"{seconds * 1000:.0f} ms" for seconds in planned), f"{sum(planned):.2f} s", ""]
    assert all(len(line) == len(head) for line in lines)
    assert report.table(results) in (RESULTS / "sql-sf10.md").read_text()


def test_results_without_planning_have_no_column_for_it():
    assert "planning" not in report.table(json.loads((RESULTS / "pdsh-sf1.json").read_text()))
