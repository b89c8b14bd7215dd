"""`floe.upload`: rows of this machine in a real S3 server, and the scan of them on workers."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe


@pytest.fixture
def options(s3):
    plain = {"aws_endpoint_url": s3.endpoint, "aws_region": s3.region, "aws_allow_http": "true"}
    return plain | s3.credentials


@pytest.fixture
def frame():
    return pl.DataFrame({"k": [i % 5 for i in range(1000)], "v": range(1000), "s": ["ä", None] * 500})


@pytest.mark.parametrize("kind", ["frame", "lazy", "csv", "parquet", "ndjson", "ipc", "directory", "glob"])
def test_rows_get_there_and_are_read_by_workers(kind, frame, options, s3, tmp_path, monkeypatch):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    if kind in ("frame", "lazy"):
        source = frame if kind == "frame" else frame.lazy()
    elif kind in ("directory", "glob"):
        for part in range(4):
            frame[part * 250 : part * 250 + 250].write_parquet(tmp_path / f"{part}.parquet")
        source = tmp_path if kind == "directory" else tmp_path / "*.parquet"
    else:
        source = tmp_path / f"rows.{kind}"
        getattr(frame, f"write_{kind}")(source)
    rows = floe.upload(source, f"s3://floe/uploads/{kind}.parquet", storage_options=options)
    plan = rows.group_by("k").agg(pl.col("v").sum(), pl.col("s").count())
    # The endpoint is in the plan, the keys are not.
    serialized = plan.serialize()
    assert s3.endpoint.encode() in serialized and s3.secret.encode() not in serialized
    with floe.Local(workers=2) as ctx:
        got = floe.collect(plan.sort("k"), ctx)
    assert_frame_equal(got, frame.group_by("k").agg(pl.col("v").sum(), pl.col("s").count()).sort("k"))


@pytest.mark.parametrize(
    ("source", "uri", "error", "words"),
    [
        ("missing.csv", "s3://floe/x.parquet", FileNotFoundError, "source: missing.csv is not there"),
        ("data.xlsx", "s3://floe/x.parquet", ValueError, "source: data.xlsx has none of the suffixes .parquet"),
        (17, "s3://floe/x.parquet", TypeError, "source: a frame or a path, not int"),
        (pl.DataFrame({"a": [1]}), "out/x.parquet", ValueError, "uri: out/x.parquet is a file of this machine"),
        (pl.DataFrame({"a": [1]}), "s3://floe/x/", ValueError, "name the Parquet file to write, as s3://floe/x/part.parquet"),
    ],
)
def test_what_cannot_be_uploaded_is_named(source, uri, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.xlsx").touch()
    with pytest.raises(error, match=words.replace(".", r"\.")):
        floe.upload(source, uri)


@pytest.mark.parametrize("how", ["frame", "parts", "csv", "sql"])
def test_what_a_sink_wrote_to_a_store_is_scanned_there(how, frame, options, s3, tmp_path, monkeypatch):
    """With the access that the sink had; SQL takes that of the environment."""
    environment = {**s3.environment, "AWS_ENDPOINT_URL": s3.endpoint, "AWS_ALLOW_HTTP": "true"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value) if how == "sql" else monkeypatch.delenv(name, raising=False)
    uri = f"s3://floe/sinks/{how}/"
    with floe.Local(workers=2) as ctx:
        if how == "sql":
            frame.write_parquet(tmp_path / "rows.parquet")
            query = floe.sql("select * from rows", {"rows": tmp_path / "rows.parquet"}, ctx).sink_parquet(uri)
        elif how == "csv":
            query = frame.lazy().remote(ctx).sink_csv(uri, separator=";", storage_options=options)
        else:
            target = pl.PartitionBy(uri, key="k") if how == "parts" else uri
            query = frame.lazy().remote(ctx).sink_parquet(target, storage_options=options)
        result = query.await_result()
    assert result.location == [uri]
    assert_frame_equal(result.lazy().select(frame.columns).sort("v").collect(), frame)
