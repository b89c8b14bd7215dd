"""The fates of a soak: the same for a seed, each with the end that it has to have."""

from __future__ import annotations

from tests.soak.fates import FAULTS, ROWS, WEIGHTS, Fate, draw, faults

BASE = {
    "plan": {}, "tables": {"lineitem": {"uri": "s3://lake/sf0.1/lineitem/*.parquet"}},
    "sink": {"uri": "s3://lake/out/NAME/"}, "activeDeadlineSeconds": 600,
}  # fmt: skip


def test_a_seed_draws_the_same_and_every_kind_comes():
    assert draw(300, 7) == draw(300, 7) != draw(300, 8)
    assert {fate.kind for fate in draw(2000, 7)} == set(WEIGHTS)
    assert faults(600, 10, 7, True) == faults(600, 10, 7, True)
    assert {what for _, what in faults(3600, 10, 7, True)} == set(FAULTS)
    moments = faults(3600, 10, 7, False)
    assert not {"etcd", "api-server"} & {what for _, what in moments}, "what cannot be started again is left alone"
    assert moments == sorted(moments) and moments[-1][0] < 3600


def test_ends_are_held_against_the_fate():
    done = {"phase": "Succeeded", "reason": "Completed", "rows": ROWS}
    failed = {"phase": "Failed", "reason": "WorkerLost", "message": "was lost"}
    assert Fate("q", "succeeds").fault(done) is None
    assert "3 rows" in Fate("q", "succeeds").fault({**done, "rows": 3})
    assert "was lost" in Fate("q", "held").fault(failed)
    assert Fate("q", "succeeds").fault(None) == "is gone"
    assert Fate("q", "deleted").fault(None) is None and Fate("q", "deleted").fault(done)
    for status in (done, {"phase": "Cancelled", "reason": "Cancelled"}):
        assert Fate("q", "cancelled").fault(status) is None
    assert Fate("q", "script").fault(done) and Fate("q", "script").fault({"phase": "Failed", "reason": "BadScript"}) is None


def test_specs_are_those_of_their_fate():
    spec = lambda kind: Fate("q", kind).spec(BASE)  # noqa: E731
    assert spec("succeeds")["tables"] == BASE["tables"] and "lineitem" in spec("succeeds")["plan"]["python"]["script"]
    assert "not-there" in spec("data")["tables"]["lineitem"]["uri"]
    assert "tables" not in spec("script") and spec("deadline")["activeDeadlineSeconds"] == 10
    assert spec("waits")["after"] == [{"query": "q-before", "condition": "Ended"}]
