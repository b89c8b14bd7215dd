"""Which builder of images is taken. Building itself is what the test cluster does with its images."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

BUILD = pathlib.Path(__file__).parents[2] / "images" / "build"


@pytest.fixture
def run(tmp_path):
    """Runs images/build with these programs in the place of builders, and no others."""

    def run(programs: dict[str, str], **environment: str) -> subprocess.CompletedProcess:
        place = tmp_path / "bin"
        place.mkdir()
        for name in ("bash", "dirname", "sed", "git", "timeout", "env"):
            found = next(pathlib.Path(p, name) for p in os.environ["PATH"].split(":") if pathlib.Path(p, name).exists())
            (place / name).symlink_to(found)
        for name, body in programs.items():
            (place / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
            (place / name).chmod(0o755)
        environment = {"PATH": str(place), "HOME": str(tmp_path), "FLOE_BINARIES": str(tmp_path), "BASE": "base", **environment}
        return subprocess.run([BUILD, "operator"], env=environment, capture_output=True, text=True, timeout=60)

    return run


def test_a_client_without_its_daemon_is_no_builder(run):
    done = run({"docker": "echo Cannot connect to the Docker daemon >&2; exit 1"})
    assert done.returncode == 1
    assert "docker, podman or buildah is needed (docker is installed and does not answer)" in done.stderr


def test_the_next_one_is_taken(run):
    done = run({"docker": "exit 1", "buildah": 'echo "$@" >>"$HOME/asked"'})
    # It goes on as far as the binaries, which are not there.
    assert "there is no" in done.stderr and "floe-operator" in done.stderr, done.stderr


def test_one_that_is_asked_for_and_does_not_work_is_named(run):
    done = run({"docker": "exit 1", "buildah": ":"}, FLOE_ENGINE="docker")
    assert done.returncode == 1 and "FLOE_ENGINE is docker" in done.stderr


def test_none_is_told(run):
    done = run({})
    assert done.returncode == 1 and "docker, podman or buildah is needed\n" in done.stderr
