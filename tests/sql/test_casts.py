"""Casts of text to dates and times: the format is that of the first value that has one, of all rows wherever they are."""

from __future__ import annotations

import polars as pl
import pytest

from tests.sql.engine import WAYS

FILES = {
    "no value is a time": [["x", None], ["y", ""]],
    "two formats of times": [["2024-01-01 10:00:00", "2024-01-02 11:30:00"], ["01/02/2024 11:00:00", "x"]],
    "two formats of days": [["2024-01-31", None], ["31/01/2024", "2024-02-29"]],
    "the second file has the first that fits": [["x", None], ["2024-01-01 10:00:00", "2024-01-01"]],
    "times of the day": [["x", "10:11:12"], ["10:11", "23:59:59"]],
    "a time zone": [["2024-01-01T10:00:00Z"], ["2024-01-01 10:00:00"]],
    "nothing": [[None], [None]],
}
TYPES = ["timestamp", "date", "time"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", FILES)
def test_casts_give_what_polars_gives(what, way, engine, tmp_path):
    mode, execution = WAYS[way]
    for at, values in enumerate(FILES[what]):
        pl.DataFrame({"i": range(at * 10, at * 10 + len(values)), "s": values}, schema={"i": pl.Int64, "s": pl.String}).write_parquet(tmp_path / f"{at}.parquet")
    uri = f"{tmp_path}/*.parquet"
    context = pl.SQLContext({"t": pl.scan_parquet(uri)}, eager=False)
    for dtype in TYPES:
        for query in (
            f"select i, s, try_cast(s as {dtype}) as v from t order by i",
            f"select try_cast(s as {dtype}) as v, count(*) as n from t group by v order by v, n",
        ):
            want = context.execute(query).collect()
            got, _ = engine.run(query, {"t": uri}, mode=mode, execution=execution)
            assert got.schema == want.schema and got.rows() == want.rows(), (query, got, want)
        query = f"select cast(s as {dtype}) as v from t"
        try:
            want = context.execute(f"{query} order by i").collect()
        except pl.exceptions.PolarsError:
            with pytest.raises(RuntimeError, match="line 1, column|could not find an appropriate format|no format and no time zone"):
                engine.run(query, {"t": uri}, mode=mode, execution=execution)
        else:
            assert engine.run(f"{query} order by i", {"t": uri}, mode=mode, execution=execution)[0].rows() == want.rows()
