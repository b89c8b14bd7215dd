"""The same tests with every other accepted version of Polars, each in its own environment (tests/wheels makes them)."""

from __future__ import annotations

import os
import pathlib
import subprocess

import polars as pl
import pytest

from tests.python.conftest import REPO

VERSIONS = ("1.43.2", "1.44.2", "2.0.0", "2.1.0")
#: What hangs on the version of Polars.
SUITE = (
    "test_engine.py",
    "test_sinks.py",
    "test_remote.py",
    "test_dtypes.py",
    "test_errors.py",
    "test_functions.py",
)
#: The same of the oldest, which is farthest from the newest: these take minutes.
OLDEST = ("test_group_functions.py",)


@pytest.mark.parametrize("version", [version for version in VERSIONS if version != pl.__version__])
def test_with_polars(version):
    cache = pathlib.Path(os.environ.get("FLOE_CACHE", pathlib.Path.home() / ".cache" / "floe"))
    subprocess.run([REPO / "tests" / "wheels", version], check=True, timeout=600)
    python = cache / "wheels" / version / "bin" / "python"
    command = [python, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "--rootdir", REPO]
    command += [REPO / "tests" / "python" / name for name in (*SUITE, *(OLDEST if version == VERSIONS[0] else ()))]
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=900, env=env)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    print(done.stdout.splitlines()[-1])
