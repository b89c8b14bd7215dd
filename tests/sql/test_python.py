"""SQL on a machine whose Python has no Polars, or that has no Python: the environment of Floe's own, made from wheels as the
docs say, and what is said where there is none."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import polars as pl
import pytest

from tests import support

DOCS = support.REPO / "docs/sql.md"


@pytest.fixture(scope="module")
def wheels() -> pathlib.Path:
    """What docs/sql.md says to download where there is a package index, once."""
    command = re.search(r"`pip (download [^`]*)`", " ".join(DOCS.read_text().split())).group(1).split()
    cache = pathlib.Path(os.environ.get("FLOE_CACHE") or pathlib.Path.home() / ".cache/floe")
    folder = cache / "wheels" / ("download " + " ".join(command[3:]))
    if not (folder / ".complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "--quiet", *command]
        done = subprocess.run(pip, cwd=folder, capture_output=True, text=True, timeout=600)
        if done.returncode:
            pytest.skip(f"no package index: {done.stderr[-300:]}")
        (folder / ".complete").touch()
    return folder


@pytest.fixture
def bare(tmp_path):
    """Runs `floe` without `FLOE_PYTHON`, with a cache of its own, and the `python3` (or none) of a folder as the only one."""

    def run(*arguments: str, python: str | None = None, code: int = 0, **variables: str) -> subprocess.CompletedProcess:
        path = tmp_path / "bin"
        path.mkdir(exist_ok=True)
        if python and not (path / "python3").exists():
            # A link, as `python3` of a system is one; its `venv` finds the library by it.
            (path / "python3").symlink_to(python)
        environment = {"PATH": str(path), "HOME": str(tmp_path), "FLOE_CACHE": str(tmp_path / "cache")} | variables
        done = subprocess.run(
            [support.binary("floe"), *arguments], env=environment, capture_output=True, text=True, timeout=900, cwd=tmp_path
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def system_python() -> str:
    """A Python without Polars."""
    base = os.path.realpath(f"{sys.base_prefix}/bin/python3")
    if subprocess.run([base, "-I", "-c", "import polars"], capture_output=True).returncode == 0:
        pytest.skip(f"{base} has Polars")
    return base


QUERY = ["run", "--sql", "select 40 + 2 as answer"]


def test_the_environment_is_made_once_from_wheels(bare, wheels, tmp_path):
    python = system_python()
    # There is no index: what is missing is said, with what to do.
    done = bare(*QUERY, python=python, code=2, PIP_NO_INDEX="1")
    assert "floe: making its Python environment in" in done.stderr
    assert "floe setup --wheels DIRECTORY" in done.stderr and "FLOE_PYTHON" in done.stderr
    made = bare("setup", "--wheels", str(wheels), python=python)
    assert "(once; polars==2.1.0)" in made.stderr
    assert made.stdout.strip() == str(tmp_path / "cache/python/polars-2.1.0/bin/python")
    assert bare("setup", python=python).stderr == ""
    done = bare(*QUERY, python=python)
    assert "42" in done.stdout and "environment" not in done.stderr
    # One that is named counts, whatever it has.
    done = bare(*QUERY, python=python, code=2, FLOE_PYTHON=python)
    assert "SqlEnvironment" in done.stderr and "cannot import polars" in done.stderr and "floe setup" in done.stderr


def test_without_any_python(bare, tmp_path):
    done = bare(*QUERY, code=2)
    assert "need Python 3.10 or newer" in done.stderr and "FLOE_PYTHON" in done.stderr
    assert "need no Python" in done.stderr
    pl.LazyFrame({"a": [1, 2, 3]}).select(pl.col("a").sum()).serialize(tmp_path / "plan.bin")
    assert "6" in bare("run", "plan.bin").stdout
