"""Connections that break between this process and a coordinator: a relay stands between the two and is cut."""

from __future__ import annotations

import threading
import time

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from floe import _retry
from floe._http import Coordinator
from floe._report import Report
from floe._retry import Patience
from floe.exceptions import ConnectionLostError, ContextError, FloeError
from tests.relay import Relay

ROWS, PARTS = 400_000, 40
#: Less than the result has, and more than a portion.
CUT_BYTES = 2 << 20


class Far(Coordinator):
    """As one behind a network: what breaks is tried again."""

    def _patience(self) -> Patience:
        return Patience(self.seconds)

    seconds = 20.0


@pytest.fixture
def relay(ctx):
    near = ctx._running().coordinator
    with Relay(near._host, near._port) as between:
        yield between


@pytest.fixture
def far(ctx, relay):
    token = ctx._running().coordinator._headers["Authorization"].split()[1]
    coordinator = Far("127.0.0.1", relay.port, token)
    yield coordinator
    coordinator.close()


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """A query with a result of some megabytes in many portions, and what it gives."""
    directory = tmp_path_factory.mktemp("rows")
    rows = pl.DataFrame({"n": range(ROWS)}).with_columns(pl.col("n").cast(pl.String).alias("word"))
    parts = []
    for number in range(PARTS):
        path = directory / f"{number:02}.parquet"
        rows.slice(number * (ROWS // PARTS), ROWS // PARTS).write_parquet(path)
        parts.append(pl.scan_parquet(path))
    named = (pl.col("n") % 7).cast(pl.String).cast(pl.Categorical).alias("category")
    return pl.concat(parts).with_columns(named), rows.with_columns(named)


@pytest.fixture
def large(ctx, rows):
    lf, want = rows
    query = floe.spawn(lf, dst=floe.ClientDst(), context=ctx, distributed=True)
    assert query.await_result(silent=True).n_rows_total == ROWS
    yield query.id, want
    query.delete_result()


def test_a_result_goes_on_where_the_connection_broke(far, relay, large):
    id, want = large
    relay.cut_after(CUT_BYTES)
    frames = list(far.batches(id))
    assert relay.cuts >= 3, "the relay cut nothing: the result is too small for this test"
    assert_frame_equal(pl.concat(frames), want)
    # Neither read twice from its begin: what came is little more than the result.
    assert relay.connections <= relay.cuts + 1
    cuts = relay.cuts
    assert_frame_equal(far.frame(id), want)
    assert relay.cuts >= cuts + 3
    cuts = relay.cuts
    assert_frame_equal(far.frame(id, ROWS - 5), want.head(ROWS - 5))
    assert relay.cuts > cuts


@pytest.mark.parametrize("reset", [True, False])
def test_a_cut_between_two_batches_is_not_noticed_by_the_reader(far, relay, large, reset):
    id, want = large
    batches = far.batches(id)
    frames = [next(batches)]
    relay.cut(reset=reset)
    frames += batches
    assert_frame_equal(pl.concat(frames), want)


def test_a_connection_that_stays_away_is_told_within_the_time_that_it_has(far, relay, large):
    id, want = large
    far.seconds = 1.0
    batches = far.batches(id)
    rows = next(batches).height
    relay.close()
    begin = time.monotonic()
    with pytest.raises(ConnectionLostError, match="does not answer"):
        for frame in batches:
            rows += frame.height
    assert 1.0 <= time.monotonic() - begin < 10
    assert rows < want.height
    with pytest.raises(ConnectionLostError):
        far.frame(id)
    # The rows are there still, once the way to them is.
    relay.open()
    assert_frame_equal(far.frame(id), want)


def test_watching_goes_on_after_cuts_and_an_outage(ctx, far, relay, endless):
    query = endless.remote(ctx).distributed().execute(blocking=False)
    report, told = Report(), []
    ended: list[Report | FloeError] = []

    def watch() -> None:
        try:
            ended.append(far.watch(query.id, report, told.append))
        except FloeError as error:
            ended.append(error)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for reset in (True, False, True):
            heard = len(told)
            until(lambda heard=heard: len(told) > heard, "something of the query")
            relay.cut(reset=reset)
        relay.close()
        time.sleep(0.3)
        before = len(told)
        time.sleep(1.0)
        assert len(told) == before
        relay.open()
        until(lambda: len(told) > before, "something after the outage")
    finally:
        query.cancel()
        watching.join(timeout=30)
    assert [one.phase for one in ended if isinstance(one, Report)] == ["Cancelled"], ended
    assert relay.cuts >= 3
    query.delete_result()


def test_a_query_that_is_gone_is_not_waited_for(far, relay, large):
    id, _ = large
    with pytest.raises(FloeError, match="no query"):
        far.watch("00000000-0000-0000-0000-000000000000", Report(), lambda _: None)
    assert relay.connections == 1
    far._headers = {"Authorization": "Bearer of-nobody-at-all"}
    begin = time.monotonic()
    with pytest.raises(ContextError, match="refuses the token") as caught:
        list(far.batches(id))
    assert not isinstance(caught.value, ConnectionLostError) and time.monotonic() - begin < 5


def test_a_rest_without_its_place_is_refused(far, relay, large, monkeypatch):
    """A coordinator that does not know offsets would send the result from its begin."""
    id, _ = large
    monkeypatch.setattr("floe._http.OFFSET", "no-such-header")
    relay.cut_after(CUT_BYTES)
    with pytest.raises(ContextError, match="(?s)after [0-9,]+ rows.*read the result again"):
        list(far.batches(id))


def test_pauses_grow_and_time_begins_anew_when_something_was_heard(monkeypatch):
    clock, pauses = [100.0], []

    def sleep(seconds: float) -> None:
        pauses.append(round(seconds, 3))
        clock[0] += seconds

    monkeypatch.setattr(_retry.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(_retry.time, "sleep", sleep)
    patience, cut = Patience(5.0), ConnectionLostError("cut")
    for _ in range(4):
        patience.wait(cut)
    patience.heard()
    # Still in the same storm: no hammering.
    patience.wait(cut)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 0.5]
    with pytest.raises(ConnectionLostError):
        while True:
            patience.wait(cut)
    assert sum(pauses[4:]) == pytest.approx(5.0)
    patience.heard()
    clock[0] += 60
    patience.wait(cut)
    assert pauses[-1] == 0.1


def until(ask, what: str, limit: float = 20.0) -> None:
    deadline = time.monotonic() + limit
    while not ask():
        assert time.monotonic() < deadline, f"not within {limit:g} s: {what}"
        time.sleep(0.01)
