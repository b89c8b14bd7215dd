"""Options and credentials of a real S3 server that come from two places: the plan, and the context that runs it."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe

ROWS = pl.DataFrame({"a": range(1000)})
WRONG = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing", "aws_session_token": "stale"}


@pytest.fixture(scope="module")
def plain(s3):
    """How to reach the server, and nothing about who asks."""
    return {"aws_endpoint_url": s3.endpoint, "aws_region": s3.region, **s3.storage["options"]}


@pytest.fixture(scope="module")
def uri(s3, plain):
    uri = "s3://floe/options/x.parquet"
    ROWS.write_parquet(uri, storage_options=plain | s3.credentials)
    return uri


@pytest.fixture
def local(monkeypatch):
    """Contexts without any credentials of this machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nowhere")
    opened = []

    def make(storage: dict[str, str] | None) -> floe.Local:
        opened.append(floe.Local(workers=1, storage=storage))
        return opened[-1]

    yield make
    for context in opened:
        context.close()


def test_a_plan_keeps_what_the_context_says_nothing_about(local, s3, plain, uri):
    ctx = local(s3.credentials)
    for more in ({}, WRONG, {"aws_skip_signature": "true"}, {"aws_session_token": "stale"}):
        lf = pl.scan_parquet(uri, storage_options=plain | more)
        assert_frame_equal(lf.remote(ctx).distributed().collect(), ROWS)
    out = "s3://floe/options/out.parquet"
    ROWS.lazy().remote(ctx).sink_parquet(out, storage_options=plain | WRONG).await_result()
    assert_frame_equal(pl.read_parquet(out, storage_options=plain | s3.credentials), ROWS)


def test_a_context_wins_option_by_option(local, s3, plain, uri):
    ctx = local(plain | {"aws_skip_signature": "false"})
    elsewhere = {"aws_endpoint_url": "http://127.0.0.1:9", "aws_default_region": "elsewhere", "aws_endpoint_url_s3": "http://127.0.0.1:9"}
    lf = pl.scan_parquet(uri, storage_options=elsewhere | s3.credentials)
    assert_frame_equal(lf.remote(ctx).collect(), ROWS)
    # The context has no keys, so that the plan's stay, with what the server thinks of them.
    with pytest.raises(OSError, match="(?i)privileges|denied|forbidden|invalid|bad request"):
        pl.scan_parquet(uri, storage_options=WRONG).remote(ctx).collect()


def test_keys_in_a_plan_just_work_on_this_machine(local, s3, plain, uri):
    ctx = local(None)
    lf = pl.scan_parquet(uri, storage_options=plain | s3.credentials)
    assert_frame_equal(lf.remote(ctx).collect(), ROWS)
