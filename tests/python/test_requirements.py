"""Packages that functions import, installed for them by pip from the index that the machine has."""

from __future__ import annotations

import importlib.util

import polars as pl
import pytest

import floe

# Small, of nothing but Python, and of no other package.
PACKAGE = "humanize==4.9.0"


def spelled(number: int) -> str:
    import humanize

    return humanize.intcomma(number)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    assert importlib.util.find_spec("humanize") is None, "the tests' own environment has the package"
    return tmp_path / "cache"


def test_functions_find_the_packages_that_were_asked_for(cache):
    lf = pl.LazyFrame({"n": [1, 1_000, 1_000_000]}).select(pl.col("n").map_elements(spelled, return_dtype=pl.String))
    with floe.Local(workers=2, env={"FLOE_CACHE": str(cache), "FLOE_REQUIREMENTS": PACKAGE}) as ctx:
        assert lf.remote(ctx).distributed().collect()["n"].to_list() == ["1", "1,000", "1,000,000"]
    (made,) = [path for path in (cache / "requirements").iterdir() if path.is_dir()]
    assert (made / "humanize").is_dir() and (made / ".complete").read_text().endswith(PACKAGE)
    # Made once: what is there serves the next engine, an index or not.
    without = {"FLOE_CACHE": str(cache), "FLOE_REQUIREMENTS": PACKAGE, "PIP_NO_INDEX": "1"}
    with floe.Local(workers=1, env=without) as ctx:
        assert lf.remote(ctx).collect().height == 3


def test_packages_that_cannot_be_had_are_an_error_that_names_them(cache):
    lf = pl.LazyFrame({"n": [1]}).select(pl.col("n").map_elements(spelled, return_dtype=pl.String))
    env = {"FLOE_CACHE": str(cache), "FLOE_REQUIREMENTS": "no-such-package-anywhere==1.0", "PIP_NO_INDEX": "1"}
    with floe.Local(workers=1, env=env) as ctx:
        with pytest.raises(Exception, match=r"(?s)spec.compute.requirements cannot be installed.*no-such-package-anywhere.*PIP_INDEX_URL"):
            lf.remote(ctx).collect()
    assert not [path for path in (cache / "requirements").iterdir() if path.is_dir()]
    with floe.Local(workers=1, env={"FLOE_CACHE": str(cache)}) as ctx:
        with pytest.raises(ModuleNotFoundError, match="humanize"):
            lf.remote(ctx).collect()
