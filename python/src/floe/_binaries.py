"""Finds the binaries: those of the wheel, or those that were built."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys

from floe.exceptions import ContextError

_HERE = pathlib.Path(__file__).parent / "bin"


def find(name: str) -> str:
    """The path of `floe-runner` or `floe`: `FLOE_RUNNER` (or `FLOE_CLI`), the wheel's own, the one on `PATH`."""
    variable = {"floe-runner": "FLOE_RUNNER", "floe": "FLOE_CLI"}[name]
    named = os.environ.get(variable)
    if named:
        if not os.access(named, os.X_OK):
            raise ContextError(f"{variable} is {named}, which is no program that can be run")
        return named
    packed = _HERE / name
    if os.access(packed, os.X_OK):
        return str(packed)
    found = shutil.which(name)
    # The command of this package, which would start itself.
    if found is None or (name == "floe" and pathlib.Path(found).read_bytes()[:2] == b"#!"):
        raise ContextError(
            f"{name} is not there: install the package with its binaries (pip install ./python in Floe's repository), or "
            f"name one that was built by {variable}"
        )
    return found


def main() -> None:
    """The command `floe` of an installed wheel."""
    try:
        binary, runner = find("floe"), find("floe-runner")
    except ContextError as error:
        sys.exit(f"floe: {error}")
    os.environ.setdefault("FLOE_RUNNER", runner)
    os.execv(binary, [binary, *sys.argv[1:]])
