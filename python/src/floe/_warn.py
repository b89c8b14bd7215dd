"""Warnings that point at the user's own line, not at one of this package or of Polars."""

from __future__ import annotations

import pathlib
import sys
import warnings

import polars as pl

_INSIDE = (str(pathlib.Path(__file__).parent), str(pathlib.Path(pl.__file__).parent))


def warn(text: str, category: type[Warning]) -> None:
    """As `warnings.warn`, at the first frame outside of this package and Polars."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)
