"""A pytest plugin: every lazy query of a test goes to Floe, by Polars' own `engine_affinity`, and is counted.

    pytest -p floe_upstream --floe-record results.json …

With `FLOE_UPSTREAM_ENGINE=streaming` the same tests run on Polars' streaming engine: what fails there has nothing to do with
Floe. With `FLOE_UPSTREAM_SHARE=8` an eighth of them runs, chosen by their names; `FLOE_UPSTREAM_SEED` chooses another.
"""

from __future__ import annotations

import json
import os
import pathlib
import zlib

import polars as pl
import pytest

NAME = os.environ.get("FLOE_UPSTREAM_ENGINE", "floe")
SHARE = int(os.environ.get("FLOE_UPSTREAM_SHARE", "1"))
SEED = int(os.environ.get("FLOE_UPSTREAM_SEED", "0"))


class Counting:
    """How many queries went to Floe."""

    queries = 0


def _engine():
    import floe

    class Engine(floe.Engine):
        def _start(self, lf, asked):
            Counting.queries += 1
            return super()._start(lf, asked)

    return Engine(floe.Local(workers=2, results_memory="1Gi"))


@pytest.fixture(scope="session")
def _floe_engine():
    return _engine() if NAME == "floe" else NAME


@pytest.fixture(autouse=True)
def _floe_affinity(_floe_engine, request):
    import warnings

    before = Counting.queries
    pl.Config.set_engine_affinity(_floe_engine)
    with warnings.catch_warnings():
        if NAME == "floe":
            import floe

            # Tests take warnings for errors; those of Floe are beside the point here.
            warnings.simplefilter("ignore", floe.exceptions.FloeWarning)
        yield
    pl.Config.set_engine_affinity(None)
    request.node.user_properties.append(("queries", Counting.queries - before))


def pytest_addoption(parser):
    parser.addoption("--floe-record", help="where to write what became of each test")


def pytest_configure(config):
    config.pluginmanager.register(Record(config.getoption("--floe-record")), "floe-record")


def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if zlib.crc32(item.nodeid.encode()) % SHARE == SEED % SHARE]


class Record:
    """What became of each test, in the process that reports."""

    def __init__(self, path: str | None):
        self.path, self.tests = path, {}

    def pytest_runtest_logreport(self, report):
        test = self.tests.setdefault(report.nodeid, {"outcome": "passed", "queries": 0})
        if report.outcome == "skipped" and report.when in ("setup", "call"):
            test["outcome"] = "xfailed" if hasattr(report, "wasxfail") else "skipped"
        elif report.outcome == "failed":
            test["outcome"] = "failed"
            test["why"] = str(getattr(report.longrepr, "reprcrash", None) or report.longrepr)[-600:]
        if report.when == "teardown":
            test["queries"] = dict(report.user_properties).get("queries", 0)

    def pytest_sessionfinish(self, session):
        if self.path and not hasattr(session.config, "workerinput"):
            pathlib.Path(self.path).write_text(json.dumps(self.tests))
