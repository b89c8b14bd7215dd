"""Who comes from Polars Cloud finds each of its public names and parameters, or learns from docs/python.md why it is not there.

polars_cloud.json has what the wheel of its client declares, as facts: names, members and parameters, read from its syntax.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import pathlib
import re
from typing import Any

import pytest

import floe
from floe._absent import ABSENT
from tests.python.conftest import REPO

NAMES: dict[str, Any] = json.loads((pathlib.Path(__file__).parent / "polars_cloud.json").read_text())["names"]
HERE = {name: members for name, members in NAMES.items() if name not in ABSENT}
MEMBERS = [
    (name, member, parameters)
    for name, members in HERE.items()
    for member, parameters in (members if isinstance(members, dict) else {"": members}).items()
]
#: Members and parameters of theirs that are not there: these and no others, each in the page's table with the reason.
NO_MEMBERS = {
    ("ComputeContext", "cpu_architectures"),
    ("ComputeContext", "instance_type"),
    ("ComputeContext", "log_level"),
    ("ComputeContext", "organization"),
    ("ComputeContext", "polars_version"),
    ("ComputeContext", "workspace"),
    ("StageStatistics", "inner"),
}
NO_PARAMETERS = {
    ("ComputeContext", "connect"): {"workspace"},
    ("ComputeContext", "list"): {"workspace"},
    ("ComputeContext", "select"): {"workspace"},
}


def explained() -> list[set[str]]:
    """The words of each row of the page's table that says what differs."""
    page = (REPO / "docs" / "python.md").read_text()
    table = page.split("## The names of Polars Cloud")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    assert len(rows) > 20 and all(len(row) == 3 for row in rows)
    return [set(re.findall(r"\w+", " ".join(re.findall(r"`[^`]*`", " ".join(row))))) for row in rows[2:] if row[2]]


def is_explained(*words: str) -> bool:
    return any(row.issuperset(words) for row in explained())


def has(thing: Any, member: str) -> bool:
    fields = {field.name for field in dataclasses.fields(thing)} if dataclasses.is_dataclass(thing) else set()
    return hasattr(thing, member) or member in fields


def test_the_facts_are_whole():
    assert {"ComputeContext", "LazyFrameRemote", "spawn", "QueryResult"} <= set(HERE) and len(MEMBERS) > 100
    assert "wait" in NAMES["ComputeContext"]["stop"] and NAMES["ComputeContext"]["cpus"] is None
    assert set(ABSENT) <= set(NAMES), "a name is refused that is none of theirs"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_there_or_says_what_to_use(name):
    if name in ABSENT:
        assert is_explained(name), f"{name} is not in the table of docs/python.md"
        with pytest.raises(AttributeError, match=rf"floe\.{name} of Polars Cloud is not there; \w"):
            getattr(floe, name)
        assert not hasattr(floe, name) and name not in floe.__all__
    else:
        assert hasattr(floe, name), name
        assert name in floe.__all__


def test_what_was_never_there_is_told_as_python_tells_it():
    with pytest.raises(AttributeError, match="module 'floe' has no attribute 'nonsense'"):
        floe.nonsense  # noqa: B018


@pytest.mark.parametrize(("name", "member", "parameters"), MEMBERS)
def test_a_member_takes_their_parameters(name, member, parameters):
    thing = getattr(floe, name)
    there = not member or has(thing, member)
    assert there != ((name, member) in NO_MEMBERS), f"{name}.{member}"
    if not there or parameters is None:
        return
    # A constructor is what its class is called with.
    taken = inspect.signature(thing if member in ("", "__init__") else getattr(thing, member)).parameters
    lacking = {parameter for parameter in parameters if parameter.lstrip("*") not in taken}
    assert lacking == NO_PARAMETERS.get((name, member), set()), f"{name}.{member}"


def test_the_page_says_why_members_and_parameters_are_not_there():
    for name, member in NO_MEMBERS:
        assert is_explained(member), f"{name}.{member} is not in the table of docs/python.md"
    for (name, member), parameters in NO_PARAMETERS.items():
        for parameter in parameters:
            assert is_explained(member, parameter), (
                f"{name}.{member}({parameter}) is not in the table of docs/python.md"
            )


@pytest.mark.parametrize("name", [name for name, members in HERE.items() if isinstance(members, dict)])
def test_parameters_stand_where_theirs_stand(name):
    """What may be given by its place has the same place."""
    for member, parameters in HERE[name].items():
        ours = getattr(getattr(floe, name), member, None)
        if member == "__init__" or not parameters or not inspect.isroutine(ours):
            continue
        placed = [
            one.name for one in inspect.signature(ours).parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD
        ]
        placed = [one for one in placed if one != "self" and one in parameters]
        assert placed == parameters[: len(placed)], f"{name}.{member}"


@pytest.fixture
def kubeconfig(tmp_path):
    """That of a cluster that is not there."""
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "analytics"}}
    told = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster], "contexts": [context]}
    (tmp_path / "config").write_text(json.dumps({**told, "users": [{"name": "u", "user": {}}]}))
    return tmp_path / "config"


def test_a_context_tells_what_it_would_be_made_with(kubeconfig):
    pytest.importorskip("kubernetes")
    secret = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    context = floe.ComputeContext(
        cpus=4, memory=16, storage=100, cluster_size=3, labels=["nightly", "etl"], kubeconfig=kubeconfig,
        env_vars={"A": "1"}, compute={"env": [secret]},
    )  # fmt: skip
    assert (context.cpus, context.memory, context.storage, context.cluster_size) == (4, 16, 100, 3)
    assert context.env_vars == {"A": "1"} and context.labels == ["etl", "nightly"]
    assert context.connection_mode == "proxy"
    # Variables of Secrets stay beside those that are given here.
    assert context._size["compute"]["env"] == [secret, {"name": "A", "value": "1"}]
    small = floe.ComputeContext(cpus="500m", memory="1536Mi", storage="lake", kubeconfig=kubeconfig)
    assert (small.cpus, small.memory, small.storage, small.cluster_size) == ("500m", "1536Mi", None, 2)
    with pytest.raises(NotImplementedError, match=r"register: .*ComputeContext\(name='x'"):
        context.register("x")
    with pytest.raises(NotImplementedError, match=r"unregister: stop\(\)"):
        context.unregister()


def test_statuses_answer_as_theirs():
    status = floe.ComputeContextStatus
    assert [one.name for one in status] == [one for one, kind in NAMES["ComputeContextStatus"].items() if kind is None]
    assert [one for one in status if one.is_started()] == [status.IDLE, status.RUNNING]
    assert [one for one in status if one.is_available()] == [status.STARTING, status.IDLE, status.RUNNING]
    assert [one for one in status if one.is_stopped()] == [status.STOPPING, status.STOPPED]
    assert [one for one in status if one.is_terminal()] == [status.STOPPED, status.FAILED]
    assert [one for one in status if one.is_failed()] == [status.FAILED]
    assert [one for one in status if one.is_uninitialized()] == [status.UNINITIALIZED]
    assert issubclass(status, enum.Enum) and repr(status.IDLE) == "IDLE"
    assert floe.ProxyQuery is floe.DirectQuery
