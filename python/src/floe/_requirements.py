"""Packages for the functions of a plan, as files and lists name them."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

__all__ = ["lines"]


def lines(requirements: str | os.PathLike[str] | Iterable[str]) -> list[str]:
    """The packages that a requirements file, or a list of its lines, names: one a line, with their hashes. Comments go; options of
    pip (`-r`, `--index-url`) are refused, since they would be lost."""
    if isinstance(requirements, (str, os.PathLike)):
        given: Iterable[str] = pathlib.Path(requirements).read_text(encoding="utf-8").splitlines()
    else:
        given = requirements
    found, open_line = [], ""
    for line in given:
        line = open_line + line.strip()
        if line.endswith("\\"):
            open_line = line[:-1].rstrip() + " "
            continue
        open_line = ""
        line = line.split(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("-"):
            raise ValueError(f"requirements: {line!r} is an option of pip and no package: set PIP_INDEX_URL and its kin in env_vars")
        found.append(line)
    return found
