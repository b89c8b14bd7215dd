"""`floe.ComputeContext` against what is in the cluster already."""

from __future__ import annotations

import threading
import warnings

import polars as pl
import pytest

import floe
from floe._compute_same import amount
from floe.exceptions import ContextError, ContextWarning, FloeWarning, IgnoredArgumentWarning

SIZES = {
    "cpus": 4, "memory": 16, "storage": 50, "cluster_size": 8, "min_workers": 1, "idle_timeout_mins": 30, "max_queries": 20,
    "image": "floe:9", "labels": ["nightly"], "env_vars": {"TOKEN": "a secret"}, "requirements": ["six==1.17.0"],
    "compute": {"coordinator": {"memory": "2Gi"}, "tolerations": [{"key": "spot"}]},
}  # fmt: skip


@pytest.fixture
def made(api, to_api):
    """Makes a context of the name `warm` as a script does, from other arguments than the first if need be."""

    def make(**arguments: object) -> floe.ComputeContext:
        context = floe.ComputeContext(name="warm", **to_api, **arguments)
        context.start()
        return context

    return make


def spec(api) -> dict:
    return api.objects["computecontexts", "warm"]["spec"]


def test_the_same_script_runs_again(api, made):
    made(**SIZES)
    # As an API server keeps it: with defaults, and amounts in another way of writing them.
    spec(api).update(cooldownSeconds=60, queue={"maxQueries": 1000, "maxSize": "128Mi"})
    spec(api)["compute"].update(memory="16384Mi", cpus="4000m")
    spec(api)["compute"]["coordinator"]["cpus"] = "500m"
    spec(api)["compute"]["tolerations"][0]["operator"] = "Equal"
    with warnings.catch_warnings():
        warnings.simplefilter("error", FloeWarning)
        made(**SIZES)
        # What is left out is as it is there.
        made()
        with made(cpus=4):
            pass
    assert ("computecontexts", "warm") in api.objects, "one that was there is not stopped at the end of a block"
    assert [one for one, _ in api.requests].count("POST") == 1


def test_what_differs_is_named_with_both_values(api, made):
    made(**SIZES)
    del spec(api)["minWorkers"]
    other = {
        "cpus": 2, "memory": "8Gi", "storage": 100, "cluster_size": 4, "min_workers": 2, "idle_timeout_mins": 5,
        "max_queries": 1, "image": "floe:10", "env_vars": {"TOKEN": "another secret", "NEW": "1"},
        "requirements": ["six==1.17.0", "attrs"], "compute": {"coordinator": {"memory": "3Gi"}, "tolerations": [{"key": "x"}]},
    }  # fmt: skip
    with pytest.raises(ContextError) as refused:
        made(**other)
    told = str(refused.value)
    for words in (
        "cpus: spec.compute.cpus is '4', not '2'",
        "memory: spec.compute.memory is '16Gi', not '8Gi'",
        "storage: spec.compute.scratch.size is '50Gi', not '100Gi'",
        "cluster_size: spec.maxWorkers is 8, not 4",
        "min_workers: spec.minWorkers is left out, not 2",
        "idle_timeout_mins: spec.idleTimeoutSeconds is 1800, not 300",
        "max_queries: spec.maxQueriesAtOnce is 20, not 1",
        "image: spec.compute.image is 'floe:9', not 'floe:10'",
        "env_vars: TOKEN has another value in spec.compute.env",
        "env_vars: NEW is not in spec.compute.env",
        "requirements: spec.compute.requirements is ['six==1.17.0'], not ['six==1.17.0', 'attrs']",
        "compute: spec.compute.coordinator.memory is '2Gi', not '3Gi'",
        "compute: spec.compute.tolerations is [{'key': 'spot'}], not [{'key': 'x'}]",
        "kubectl edit cc warm -n analytics",
    ):
        assert words in told
    assert told.count(";") == 14 and "secret" not in told.replace("spec.", "")
    with pytest.raises(ContextError) as refused:
        made(cpus=4, memory=17)
    assert "cpus" not in str(refused.value) and "memory: spec.compute.memory is '16Gi', not '17Gi'" in str(refused.value)


def test_labels_that_differ_warn(api, made):
    made(cpus=1, labels={"team": "etl", "tier": "gold"})
    with pytest.warns(IgnoredArgumentWarning, match="labels: context warm is there already, without tier=silver, new=$"):
        context = made(labels={"team": "etl", "tier": "silver", "new": ""}, cpus=1)
    # It is looked at once: what others change meanwhile is no error of this one.
    spec(api)["compute"]["cpus"] = "2"
    with warnings.catch_warnings():
        warnings.simplefilter("error", FloeWarning)
        context.start()


def test_one_that_another_process_makes_at_the_same_time_is_used(api, made, to_api, monkeypatch):
    context = floe.ComputeContext(name="warm", **to_api, cpus=4)
    first = made(cpus=4)
    read, answers = context._read, [None]
    # It was not there yet when this one looked.
    monkeypatch.setattr(context, "_read", lambda: answers.pop() if answers else read())
    context.start()
    assert not context._made and first._made
    other = floe.ComputeContext(name="warm", **to_api, cpus=5)
    read, answers = other._read, [None]
    monkeypatch.setattr(other, "_read", lambda: answers.pop() if answers else read())
    with pytest.raises(ContextError, match=r"cpus: spec\.compute\.cpus is '4', not '5'"):
        other.start()


def test_a_context_that_does_not_start_says_why(api, made, to_api, monkeypatch):
    context = made(cpus=1)
    tell = {"phase": "Starting", "reason": "ImagePull", "message": "floe:9 is not there"}
    api.put("computecontexts", "warm", status=tell)
    assert "ImagePull: floe:9 is not there" in context._repr_html_()
    assert floe.ComputeContext.list(**to_api)[0][1] == floe.ComputeContextStatus.STARTING
    monkeypatch.setattr("floe._compute.QUIET_SECONDS", 0.1)
    ready = threading.Timer(1.0, lambda: api.put("computecontexts", "warm", status={"phase": "Ready"}))
    ready.start()
    with pytest.warns(ContextWarning, match="context warm has not started yet: ImagePull: floe:9 is not there") as caught:
        context.start(wait=True)
    assert len(caught) == 1, "once is enough"
    api.put("computecontexts", "warm", status={**tell, "phase": "Failed"})
    with pytest.raises(ContextError, match="context warm does not start: ImagePull: floe:9 is not there"):
        context.start(wait=True)


def test_a_query_is_explained_for_the_sizes_of_the_context(api, made, to_api):
    lf = pl.LazyFrame({"k": range(1000), "v": range(1000)}).group_by("k").agg(pl.col("v").sum())

    def explained(context: floe.ComputeContext) -> str:
        return lf.remote(context).distributed().explain()

    one, many = ({"cpus": 1, "memory": 2, "cluster_size": size, "min_workers": 1} for size in (1, 9))
    # One that is not there yet, and one that is, by its name alone.
    new = floe.ComputeContext(name="warm", **to_api, **one)
    made(**many)
    there = floe.ComputeContext(name="warm", **to_api)
    assert new._planned_for({}) == {"cpus": "1", "memory": "2Gi", "workers": 1}
    assert there._planned_for({}) == {"cpus": "1", "memory": "2Gi", "workers": 9}
    assert explained(new) != explained(there)
    # As its coordinator does: for those that are there.
    api.put("computecontexts", "warm", status={"workers": {"ready": 1, "wanted": 9}})
    assert there._planned_for({})["workers"] == 1 and explained(new) == explained(there)


@pytest.mark.parametrize(
    ("one", "other"), [("1", "1000m"), ("1e3", "1k"), ("1Gi", "1024Mi"), (2, "2.0"), ("1G", "1000000k"), ("1Ti", "1024Gi")]
)
def test_amounts_are_the_same_however_they_are_written(one, other):
    assert amount(one) == amount(other)
    assert amount("1G") != amount("1Gi") and amount("1.2.3") is None and amount("5 Gi") is None
