"""`pip install ./python` into an empty environment: a wheel that carries the engine, and works without anything beside it."""

from __future__ import annotations

import os
import pathlib
import platform
import re
import subprocess
import sys

import pytest

from tests.python.conftest import REPO

USE = """
import floe, pathlib, polars as pl, floe._binaries
assert pathlib.Path(floe._binaries.find("floe-runner")).parent.parent == pathlib.Path(floe.__file__).parent
with floe.Local(workers=2) as ctx:
    lf = pl.LazyFrame({"k": ["a", "b", "a"], "v": [1, 2, 3]}).group_by("k").agg(pl.col("v").sum()).sort("k")
    print(lf.collect(engine=floe.Engine(ctx)).rows(), lf.remote(ctx).distributed().show().rows())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("package")
    before = subprocess.run(["git", "status", "--porcelain"], cwd=REPO, capture_output=True, text=True).stdout
    subprocess.run([sys.executable, "-m", "venv", root / "venv"], check=True, timeout=300)
    python = root / "venv" / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", REPO / "python"]
    # With the build directory of these tests, so that nothing is compiled anew.
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-4000:]
    after = subprocess.run(["git", "status", "--porcelain"], cwd=REPO, capture_output=True, text=True).stdout
    assert after == before, "the build leaves files in the checkout"
    return python


def alone(python: pathlib.Path, *command: str | pathlib.Path) -> subprocess.CompletedProcess:
    """Without the binaries and modules of this checkout."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "FLOE_RUNNER", "FLOE_CLI")}
    env["PATH"] = f"{python.parent}:/usr/bin:/bin"
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, cwd=python.parent)


def test_it_runs_queries(installed):
    done = alone(installed, installed, "-c", USE)
    assert done.stdout == "[('a', 4), ('b', 2)] [('a', 4), ('b', 2)]\n", done.stderr


def test_it_brings_the_command(installed):
    done = alone(installed, installed.parent / "floe", "--version")
    assert done.returncode == 0 and done.stdout.startswith("floe 0."), done.stderr


def test_it_is_typed_and_of_this_platform(installed):
    code = "import floe, importlib.metadata as m; print(m.distribution('floe').read_text('WHEEL')); print(floe.__file__)"
    told = alone(installed, installed, "-c", code).stdout
    assert "Root-Is-Purelib: false" in told
    # The oldest glibc that the programs run with, here the one that they were built with or an older one.
    needed = re.search(rf"^Tag: py3-none-manylinux_2_(\d+)_{platform.machine()}$", told, re.MULTILINE)
    assert needed and int(needed[1]) <= int(platform.libc_ver()[1].split(".")[1]), told
    assert (pathlib.Path(told.splitlines()[-1]).parent / "py.typed").is_file()
