"""Fixtures of the Python tests: data, a clean directory to run in."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

REPO = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(REPO))


@pytest.fixture(scope="session")
def data():
    """data(scale_factor) -> directory of the PDS-H tables, made when missing."""

    def make(scale_factor: str) -> pathlib.Path:
        done = subprocess.run(
            [REPO / "tests" / "data", scale_factor], check=True, stdout=subprocess.PIPE, text=True, timeout=600
        )
        return pathlib.Path(done.stdout.strip().splitlines()[-1])

    return make


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """An empty current directory with the repository's examples in it, as `examples/...` in their URIs wants."""
    (tmp_path / "examples").symlink_to(REPO / "examples")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    left = [path.name for path in tmp_path.iterdir() if path.name not in ("examples", "data", "out")]
    assert not left, f"the query left files behind: {left}"


def pytest_configure(config):
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
