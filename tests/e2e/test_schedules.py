"""Schedules: queries at the times of a cron line, and what becomes of those that cannot run at once.

No test waits for the clock where it need not: times that have just passed are put before the operator by moving
`status.settledUntil` back, and queries that must not end are made suspended, so that they have no pods."""

from __future__ import annotations

import datetime
import json

import pytest

from tests.e2e import kube
from tests.e2e.queries import SMALL

MINUTE = datetime.timedelta(minutes=1)
LABEL = "floe.dev/scheduled-query"
# One that neither runs nor ends by itself.
HELD = {"plan": {"sql": "SELECT 1 AS one"}, "suspend": True}


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


class Schedules:
    """The schedules of one namespace."""

    def __init__(self, queries):
        self.queries, self.namespace = queries, queries.namespace

    def create(self, name: str, query: dict, schedule: str = "* * * * *", **spec) -> None:
        spec = {"schedule": schedule, "queryTemplate": {"spec": query}, **spec}
        body = {"apiVersion": "floe.dev/v1alpha1", "kind": "ScheduledQuery", "metadata": {"name": name}, "spec": spec}
        kube.apply(body, namespace=self.namespace)

    def get(self, name: str) -> dict | None:
        return kube.get("scheduledqueries", self.namespace, name)

    def status(self, name: str) -> dict:
        return (self.get(name) or {}).get("status") or {}

    def wait(self, name: str, what: str, ask, limit_seconds: float = 30) -> dict:
        def asked():
            status = self.status(name)
            return status if status and ask(status) else None

        return kube.wait(
            f"{name}: {what}", limit_seconds, asked, lambda: f"last: {self.status(name)}\n{kube.story(self.namespace)}"
        )

    def change(self, name: str, **spec) -> None:
        kube.patch("scheduledqueries", self.namespace, name, {"spec": spec})

    def missed(self, name: str, minutes: int) -> None:
        """As many times have passed, as if nobody had watched."""
        self.wait(name, "the first look", lambda status: status.get("settledUntil"))
        # The last of them is some seconds ago: none is made while this goes on.
        last = now().replace(second=0, microsecond=0)
        settled = (last - minutes * MINUTE).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = kube.path("scheduledqueries", self.namespace, name) + "/status"
        kube.request("PATCH", path, {"status": {"settledUntil": settled}}, "application/merge-patch+json")

    def made(self, name: str) -> list[dict]:
        found = kube.items("distributedqueries", self.namespace, f"{LABEL}={name}")
        return sorted(found, key=lambda one: one["metadata"]["annotations"]["floe.dev/scheduled-at"])

    def some(self, name: str, count: int, limit_seconds: float = 30) -> list[dict]:
        """Until it has at least so many queries."""
        return kube.wait(
            f"{count} queries of {name}", limit_seconds,
            lambda: found if len(found := self.made(name)) >= count else None, lambda: kube.story(self.namespace),
        )  # fmt: skip

    def told(self, name: str, reason: str, limit_seconds: float = 20) -> dict:
        """An Event of the schedule."""

        def ask():
            return next((one for one in self.queries.events(name) if one["reason"] == reason), None)

        return kube.wait(f"the Event {reason} of {name}", limit_seconds, ask, lambda: kube.story(self.namespace))

    def condition(self, name: str, kind: str, status: str, limit_seconds: float = 30) -> dict:
        def ask(found):
            return [one for one in found.get("conditions", []) if one["type"] == kind and one["status"] == status]

        return ask(self.wait(name, f"{kind} is {status}", ask, limit_seconds))[0]

    def delete(self, name: str) -> None:
        kube.request("DELETE", kube.path("scheduledqueries", self.namespace, name))


@pytest.fixture
def schedules(queries):
    made = Schedules(queries)
    yield made
    # Else they would make queries while the namespace is emptied.
    for one in kube.items("scheduledqueries", queries.namespace):
        made.delete(one["metadata"]["name"])
    kube.wait("no schedules", 20, lambda: not kube.items("scheduledqueries", queries.namespace))


def test_a_query_is_made_when_its_time_comes_and_goes_with_its_schedule(schedules, queries):
    query = {"plan": {"sql": "SELECT CAST($day AS DATE) AS day, $rows AS n"}, "compute": {"workers": 1, **SMALL}}
    params = {"day": {"type": "date", "value": "{{ .scheduledDate - 1d }}"}, "rows": {"type": "int", "value": "7"}}
    schedules.create("minutely", query, params=params, timeZone="Asia/Kathmandu")
    status = schedules.wait("minutely", "the next time", lambda status: status.get("nextScheduleTime"))
    due = datetime.datetime.fromisoformat(status["nextScheduleTime"])
    assert due.second == 0 and now() - MINUTE < due <= now() + MINUTE
    (made, *_) = schedules.some("minutely", 1, limit_seconds=75)
    name, meta = made["metadata"]["name"], made["metadata"]
    assert now() >= due and meta["annotations"]["floe.dev/scheduled-at"].endswith("+05:45")
    scheduled = datetime.datetime.fromisoformat(meta["annotations"]["floe.dev/scheduled-at"])
    assert scheduled == due and name == f"minutely-{int(due.timestamp()) // 60}"
    (owner,) = meta["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("ScheduledQuery", "minutely", True)
    day = str(scheduled.date() - datetime.timedelta(days=1))
    assert made["spec"]["params"] == {"day": day, "rows": 7}
    # One is enough.
    schedules.change("minutely", suspend=True)
    queries.succeeded(name)
    assert queries.read(name).to_dict(as_series=False) == {"day": [datetime.date.fromisoformat(day)], "n": [7]}
    status = schedules.wait("minutely", "its success", lambda status: status.get("lastSuccessfulTime"))
    assert status["activeQueries"] == 0 and "nextScheduleTime" not in status and "active" not in status
    assert datetime.datetime.fromisoformat(status["lastScheduleTime"]) >= due
    for reason in ("SuccessfulCreate", "SawCompletedQuery"):
        schedules.told("minutely", reason)
    columns = kube.kubectl("get", "sq", "-n", schedules.namespace)
    for word in ("SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE", "LAST", "NEXT", "AGE", "Asia/Kathmandu"):
        assert word in columns, columns
    schedules.delete("minutely")
    kube.wait("its queries are gone", 60, lambda: not schedules.made("minutely"), lambda: kube.story(schedules.namespace))


def test_suspended_it_makes_none_and_resumed_the_latest(schedules):
    schedules.create("held", HELD, schedule="*/1 * * * *", suspend=True)
    schedules.missed("held", 3)
    # Another one of the same times shows that the operator has looked.
    schedules.create("other", HELD)
    schedules.missed("other", 3)
    schedules.some("other", 1)
    assert not schedules.made("held") and schedules.status("held").get("missedTimes", 0) == 0
    schedules.change("held", suspend=False)
    (made,) = schedules.some("held", 1)
    status = schedules.wait("held", "the missed times", lambda status: status.get("missedTimes", 0) >= 2)
    assert status["active"][0]["name"] == made["metadata"]["name"]
    assert "times passed without a query" in schedules.told("held", "MissSchedule")["message"]


def test_one_that_has_not_ended_is_waited_for_or_replaced(schedules, queries):
    schedules.create("waits", HELD, schedule="*/1 * * * *")
    schedules.create("replaces", HELD, schedule="*/1 * * * *", concurrencyPolicy="Replace")
    first = {}
    for name in ("waits", "replaces"):
        schedules.missed(name, 1)
        first[name] = schedules.some(name, 1)[0]["metadata"]["name"]
    for name in ("waits", "replaces"):
        # The time of before has its query: that of now is another one only if a minute went by.
        schedules.wait(name, "the next time is known", lambda status: status.get("nextScheduleTime"))
    status = schedules.wait("waits", "the next one waits", lambda status: status.get("waitingTime"), 75)
    assert [one["metadata"]["name"] for one in schedules.made("waits")] == [first["waits"]]
    assert first["waits"] in schedules.told("waits", "QueryAlreadyActive")["message"]
    kube.wait("it is replaced", 20, lambda: queries.get(first["replaces"]) is None, lambda: kube.story(schedules.namespace))
    (made, *_) = schedules.made("replaces")
    assert made["metadata"]["name"] != first["replaces"]
    schedules.told("replaces", "SuccessfulDelete")
    # What waited comes at once when the other one has ended.
    queries.change(first["waits"], suspend=False, cancel=True)
    minutes = int(datetime.datetime.fromisoformat(status["waitingTime"]).timestamp()) // 60
    kube.wait("it is made", 30, lambda: int(schedules.made("waits")[-1]["metadata"]["name"].rsplit("-", 1)[1]) >= minutes)


def test_missed_times_are_all_caught_up_and_old_queries_go(schedules, queries):
    schedules.create("all", HELD, schedule="*/1 * * * *", concurrencyPolicy="Allow", catchUp="All")
    schedules.missed("all", 4)
    made = schedules.some("all", 4)
    schedules.change("all", suspend=True)
    # What is told of the suspended one is told of all its queries.
    status = schedules.wait("all", "it is suspended", lambda status: "nextScheduleTime" not in status)
    assert status["activeQueries"] >= 4
    assert len(status["active"]) == status["activeQueries"]
    for one in schedules.made("all"):
        queries.change(one["metadata"]["name"], suspend=False, cancel=True)
    left = kube.wait(
        "one of them is kept", 40, lambda: found if len(found := schedules.made("all")) == 1 else None,
        lambda: kube.story(schedules.namespace),
    )  # fmt: skip
    assert left[0]["metadata"]["name"] >= made[-1]["metadata"]["name"], "the latest"
    schedules.wait("all", "none is active", lambda status: status.get("activeQueries") == 0)
    # A deadline leaves nothing to catch up.
    schedules.create("late", HELD, schedule="0 0 1 1 *", startingDeadlineSeconds=10)
    status = schedules.wait("late", "the first look", lambda status: status.get("settledUntil"))
    path = kube.path("scheduledqueries", schedules.namespace, "late") + "/status"
    kube.request("PATCH", path, {"status": {"settledUntil": "2020-01-01T00:00:00Z"}}, "application/merge-patch+json")
    schedules.wait("late", "all are missed", lambda status: status.get("missedTimes", 0) >= 5)
    assert not schedules.made("late")


def test_what_cannot_be_made_is_told(schedules):
    schedules.create("nowhere", HELD, timeZone="Europe/Atlantis")
    condition = schedules.condition("nowhere", "Accepted", "False")
    assert condition["reason"] == "UnknownTimeZone" and "Europe/Atlantis" in condition["message"]
    schedules.told("nowhere", "UnknownTimeZone")
    # The API server refuses what it can by itself.
    for spec, words in [({"schedule": "@every 5m"}, "spec.schedule must have five fields"), ({"timeZone": "Local"}, "spec.timeZone must be")]:
        body = {"schedule": "* * * * *", "queryTemplate": {"spec": HELD}, **spec}
        body = {"apiVersion": "floe.dev/v1alpha1", "kind": "ScheduledQuery", "metadata": {"name": "bad"}, "spec": body}
        done = kube.run("create", "--dry-run=server", "-n", schedules.namespace, "-f", "-", input=json.dumps(body))
        assert done.returncode and words in done.stderr, done


def test_a_policy_that_refuses_the_query_is_told_and_asked_again(schedules):
    name = f"floe-{schedules.namespace}"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": ["floe.dev"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["distributedqueries"]},
            ]},
            "validations": [{"expression": "false", "message": "no queries on this day"}],
        },
    }  # fmt: skip
    here = {"matchLabels": {"kubernetes.io/metadata.name": schedules.namespace}}
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": here}},
    }  # fmt: skip
    body = {"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "probe"}, "spec": HELD}

    def is_refused() -> bool:
        return kube.run("create", "--dry-run=server", "-n", schedules.namespace, "-f", "-", input=json.dumps(body)).returncode != 0

    try:
        kube.apply(policy, binding)
        kube.wait("the policy holds", 30, is_refused)
        schedules.create("refused", HELD)
        schedules.missed("refused", 1)
        condition = schedules.condition("refused", "QueryCreated", "False")
        assert condition["reason"] == "NotAllowed" and "no queries on this day" in condition["message"]
        told = schedules.told("refused", "FailedCreate")
        assert "no queries on this day" in told["message"] and told["type"] == "Warning"
        assert not schedules.made("refused")
    finally:
        kube.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name, "--ignore-not-found")
    kube.wait("the policy is gone", 30, lambda: not is_refused())
    # It is asked for less and less often; a change of the spec is tried at once.
    schedules.change("refused", successfulQueriesHistoryLimit=5)
    schedules.some("refused", 1)
    schedules.condition("refused", "QueryCreated", "True")
