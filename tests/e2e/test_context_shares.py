"""How queries that run on a context share its workers: by priority, by patience, and by the weights of their labels."""

from __future__ import annotations

import time

from tests.e2e.contexts import LARGER
from tests.e2e.queries import GATED_FIRST, GATED_SINGLE

#: A query that has waited so long without a worker gets the next one, whatever its priority.
PATIENCE_SECONDS = 10


class Gated:
    """Queries of a context of which each stands at a gate of its own. A worker has room for one task at a time, so those that stand
    there are the workers that a query has."""

    def __init__(self, contexts):
        self.contexts, self.queries = contexts, contexts.queries

    def create(self, name: str, script: str = GATED_FIRST, **more) -> None:
        self.queries.create(name, self.contexts.query(script, params={"gate": self.queries.gate(name)}, **more))

    def hold(self, *names: str, **more) -> None:
        """Queries that take a worker each."""
        for name in names:
            self.create(name, GATED_SINGLE, sink=None, **more)

    def took(self, name: str) -> int:
        """How many tasks of its first stage have started."""
        stages = self.queries.status(name).get("stages", [])
        return stages[0].get("attempts", 0) if stages else 0

    def wait(self, **want: int) -> None:
        """Until this many tasks of each have started."""
        for name, tasks in want.items():
            self.queries.wait(name, f"{tasks} workers", lambda _, name=name, tasks=tasks: self.took(name) >= tasks)
        assert {name: self.took(name) for name in want} == want

    def planned(self, name: str) -> None:
        self.queries.wait(name, "its stages", lambda status: status.get("stages"))


def test_a_free_worker_goes_to_the_higher_priority_and_to_one_that_has_waited_long(contexts, queries, groups_result):
    contexts.create(minWorkers=3, maxWorkers=3, compute=LARGER)
    contexts.ready(3)
    gated = Gated(contexts)
    gated.hold("a", "b")
    gated.wait(a=1, b=1)
    gated.create("high", priority=5)
    gated.wait(high=1)
    gated.create("low")
    gated.planned("low")
    # Each of them wants more workers than there are. The lower priority gets one because it has had none for so long ...
    time.sleep(PATIENCE_SECONDS + 1)
    assert gated.took("low") == 0
    queries.open("a")
    gated.wait(low=1, high=1)
    # ... and then no other, though it was served less: not the next that is free, and not its own when it is.
    queries.open("b")
    gated.wait(high=2, low=1)
    queries.open("low")
    gated.wait(high=3, low=1)
    queries.open("high")
    for name in ("a", "b", "low", "high"):
        assert queries.succeeded(name).get("failures", 0) == 0
    for name in ("low", "high"):
        queries.holds(name, groups_result)


def test_labels_share_workers_and_turns_by_their_weights(contexts, queries, groups_result):
    contexts.create(
        minWorkers=4, maxWorkers=4, maxQueriesAtOnce=4, compute=LARGER,
        fairShare={"label": "user", "weights": {"nightly": 3}},
    )  # fmt: skip
    contexts.ready(4)
    gated = Gated(contexts)
    # Workers: both have one before they get to their shares, or their patience would count, too.
    gated.hold("a", "b", labels={"user": "carol"})
    gated.wait(a=1, b=1)
    gated.create("nightly", labels={"user": "nightly"})
    gated.wait(nightly=2)
    gated.create("bob", labels={"user": "bob"})
    gated.planned("bob")
    queries.open("a")
    gated.wait(bob=1, nightly=2)
    queries.open("b")
    gated.wait(nightly=3, bob=1)
    # What one does not need the other gets.
    queries.open("bob")
    queries.succeeded("bob")
    gated.wait(nightly=4)
    queries.open("nightly")
    queries.succeeded("nightly")
    for name in ("bob", "nightly"):
        queries.holds(name, groups_result)

    # Turns: four run at once, more of both wait.
    held = [f"hold-{number}" for number in range(4)]
    gated.hold(*held, labels={"user": "carol"})
    gated.wait(**dict.fromkeys(held, 1))
    wait = [f"{user}-{number}" for user in ("bob", "nightly") for number in range(4)]
    for name in wait:
        gated.hold(name, labels={"user": name.split("-")[0]})
    contexts.wait("all of them", lambda status: status.get("queriesWaiting", 0) == len(wait), 120)
    for name in held:
        queries.open(name)
    for name in held:
        queries.succeeded(name)
    runs = ["bob-0", "nightly-0", "nightly-1", "nightly-2"]
    gated.wait(**dict.fromkeys(runs, 1))
    assert [name for name in wait if gated.took(name)] == runs
