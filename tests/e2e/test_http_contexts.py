"""What queries of the HTTP API run on, what becomes of them on the way, and what their pods say: contexts, suspending, logs."""

from __future__ import annotations

import io
import json

import polars as pl
import pytest

from tests.e2e import kube
from tests.e2e.http_api import Caller
from tests.e2e.queries import BUSY, SMALL
from tests.e2e.test_http_api import WORDS, submitted, words


@pytest.fixture
def ann(queries) -> Caller:
    """Somebody who may edit in the namespace."""
    return Caller(queries.namespace, "ann", "edit")


def test_a_query_is_suspended_and_resumed(queries, ann):
    name = submitted(ann, {"name": "later", **words(suspend=True)})
    queries.phase(name, "Suspended")
    assert ann.ask("POST", f"/{name}/suspend").good(200).json()["spec"]["suspend"] is True
    assert ann.ask("POST", f"/{name}/resume").good(202).json()["spec"]["suspend"] is False
    assert ann.ended(name)["phase"] == "Succeeded"
    assert ann.ask("GET", f"/{name}/result?limit=1").good().json()["total"] == 25
    for change in ("suspend", "resume"):
        assert "has ended (Succeeded)" in ann.ask("POST", f"/{name}/{change}").problem(409, "already-ended")["detail"]


def test_a_query_that_runs_is_suspended_and_its_pods_go(queries, ann, slow):
    name = submitted(ann, {"name": "long", "spec": queries.spec(slow, sink=None)})
    queries.phase(name, "Running", limit_seconds=120)
    assert ann.ask("POST", f"/{name}/resume").good(200).json()["spec"].get("suspend", False) is False
    ann.ask("POST", f"/{name}/suspend").good(202)
    queries.phase(name, "Suspended", limit_seconds=60)
    queries.no_pods(name)
    assert "started yet" in ann.ask("GET", f"/{name}/logs").problem(409, "no-logs")["detail"]
    ann.ask("POST", f"/{name}/resume").good(202)
    queries.phase(name, "Running", limit_seconds=120)
    ann.ask("POST", f"/{name}/cancel").good(202)
    told = ann.ask("POST", f"/{name}/suspend")
    assert told.status == 409 and told.json()["type"].rsplit(":")[-1] in ("being-cancelled", "already-ended"), told.body


def test_logs_are_those_of_the_pods_in_order(queries, ann, slow):
    # Workers tell of their tasks when asked to.
    loud = {"env": [{"name": "RUST_LOG", "value": "info,floe_runner=debug"}]}
    name = submitted(ann, {"name": "long", "spec": queries.spec(slow, sink=None, compute=loud)})
    queries.phase(name, "Running", limit_seconds=120)
    pods = {one["metadata"]["name"] for one in queries.pods(name)}
    assert pods == {"long-1-c", "long-1-w0-0", "long-1-w1-0"}

    def read(rest: str = "") -> list[dict]:
        answer = ann.ask("GET", f"/{name}/logs{rest}").good()
        told = answer.json()
        assert told["complete"] is True and answer.headers["floe-log-complete"] == "true", told
        return told["lines"]

    lines = kube.wait("all pods log", 60, lambda: (got := read()) and {one["pod"] for one in got} == pods and got)
    times = [one["time"] for one in lines]
    assert times == sorted(times) and all(one["message"] for one in lines)
    # What the pod itself says.
    said = kube.kubectl("logs", "long-1-c", "-c", "floe", "-n", queries.namespace).splitlines()
    mine = [one["message"] for one in read("?role=coordinator&tail=10000")]
    assert said and mine[: len(said)] == [json.loads(line)["message"] for line in said]
    assert {one["pod"] for one in read("?worker=1")} == {"long-1-w1-0"}
    assert {one["pod"] for one in read("?role=worker")} == pods - {"long-1-c"}
    assert len(read("?tail=1")) == 3
    assert len(read("?since=86400")) >= len(lines)
    staged = kube.wait("a line of a stage", 60, lambda: [one for one in read() if "stage" in one])
    stage = staged[0]["stage"]
    assert {one["stage"] for one in read(f"?stage={stage}")} == {stage}
    text = ann.ask("GET", f"/{name}/logs?format=text&tail=2").good()
    assert text.headers["content-type"].startswith("text/plain") and b"coordinator | " in text.body
    assert 3 <= len(text.body.splitlines()) <= 6
    assert "no such pod" in ann.ask("GET", f"/{name}/logs?worker=77").problem(409, "no-logs")["detail"]
    faulty = [
        ("tail=0", "tail"),
        ("tail=10001", "tail"),
        ("role=clean", "role"),
        ("follow=1", "follow"),
    ]
    for rest, field in faulty:
        assert ann.ask("GET", f"/{name}/logs?{rest}").problem(400, "bad-request")["errors"][0]["field"] == field
    assert ann.ask("GET", f"/{name}/logs?worker=1&role=worker").problem(422, "invalid")["errors"][0]["field"] == "worker"
    # Seeing the query is not enough, and neither is reading logs.
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    seeing = {"apiGroups": ["floe.dev"], "resources": ["distributedqueries"], "verbs": ["get"]}
    reading = {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}
    bob = Caller(queries.namespace, "bob")
    at = ["-n", queries.namespace]
    for rule, refused in [
        (seeing, "get pods/log in namespace"),
        (reading, f"get distributedqueries {name} in namespace"),
    ]:
        kube.apply({**role, "metadata": {"name": "one"}, "rules": [rule]}, namespace=queries.namespace)
        kube.kubectl("create", "rolebinding", "bob", "--role=one", f"--serviceaccount={queries.namespace}:bob", *at)

        def told(refused=refused):
            answer = bob.ask("GET", f"/{name}/logs")
            return answer.status == 403 and refused in answer.json()["detail"]

        kube.wait(f"may not {refused}", 20, told)
        kube.kubectl("delete", "rolebinding", "bob", *at)
    viewer = Caller(queries.namespace, "viewer", "view")
    kube.wait("who views all reads logs", 20, lambda: viewer.ask("GET", f"/{name}/logs?tail=1").status == 200)
    ann.ask("POST", f"/{name}/cancel").good(202)
    assert ann.ended(name)["phase"] == "Cancelled"
    queries.no_pods(name)
    assert "keepFailedPodsSeconds" in ann.ask("GET", f"/{name}/logs").problem(409, "no-logs")["detail"]


def test_a_long_log_is_cut_to_its_last_lines_and_others_pods_are_not_told(queries, ann):
    env = {"compute": {"workers": 2, **SMALL, "env": [{"name": "RUST_LOG", "value": "trace"}]}}
    name = submitted(ann, {"name": "chatty", "spec": queries.spec(BUSY, sink=None, **env)})
    queries.phase(name, "Running", limit_seconds=120)
    # A pod that calls itself the query's.
    pod = queries.pod(name, "coordinator")["spec"]
    labels = {"query": name, "role": "worker", "attempt": "1", "worker": "9", "replacement": "0"}
    main = {field: pod["containers"][0][field] for field in ("image", "securityContext")}
    main |= {"name": "floe", "command": ["floe-runner", "--version"]}
    spec = {"containers": [main], "restartPolicy": "Never", "securityContext": pod["securityContext"]}
    metadata = {"name": "forged", "labels": {f"floe.dev/{label}": value for label, value in labels.items()}}
    kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, namespace=queries.namespace)

    def ended():
        status = kube.get("pods", queries.namespace, "forged")["status"]
        return "terminated" in (status.get("containerStatuses") or [{}])[0].get("state", {})

    kube.wait("the forged pod has ended", 60, ended, lambda: kube.story(queries.namespace))
    ann.ask("GET", f"/{name}/logs?worker=9").problem(409, "no-logs")

    def cut():
        answer = ann.ask("GET", f"/{name}/logs?tail=10000").good()
        return answer if answer.headers["floe-log-complete"] == "false" else None

    answer = kube.wait("more than an answer has room for", 120, cut)
    told = answer.json()
    assert told["complete"] is False and 200_000 < len(answer.body) < 3 << 20, len(answer.body)
    assert "forged" not in {one["pod"] for one in told["lines"]}
    times = [one["time"] for one in told["lines"]]
    assert times == sorted(times)
    # A pod with too long a log begins later than it did.
    first = {}
    for one in told["lines"]:
        first.setdefault(one["pod"], one["time"])
    begins = {
        pod: kube.kubectl(
            "logs", pod, "-c", "floe", "-n", queries.namespace, "--timestamps", "--limit-bytes=40"
        ).split()[0]
        for pod in first
    }
    assert any(first[pod] > begins[pod] for pod in first), (first, begins)
    kube.kubectl("delete", "pod", "forged", "-n", queries.namespace, "--now", timeout=60)


def test_a_context_is_made_used_and_deleted(queries, ann):
    def contexts(method: str, rest: str = "", body: dict | None = None, who: Caller = ann, **more):
        data = {} if body is None else {"body": json.dumps(body).encode()}
        return who.ask(method, rest, "-H", "Content-Type: application/json", kind="contexts", **data, **more)

    coordinator = {"cpus": "50m", "memory": "640Mi", "scratch": "512Mi"}
    warm = {
        "name": "warm",
        "labels": {"team": "x"},
        "spec": {"maxWorkers": 2, "compute": {**SMALL, "coordinator": coordinator}},
    }
    nobody, viewer = Caller(queries.namespace, "nobody"), Caller(queries.namespace, "viewer", "view")
    for method, rest in [("GET", ""), ("POST", ""), ("GET", "/warm"), ("DELETE", "/warm")]:
        told = contexts(method, rest, who=nobody).problem(403, "forbidden")["detail"]
        assert "nobody may not " in told and "computecontexts" in told
        contexts(method, rest, namespace="floe-system").problem(403, "forbidden")
        contexts(method, rest, token="abc").problem(401, "unauthenticated")
    contexts("POST", "", warm, viewer).problem(403, "forbidden")
    contexts("DELETE", "/warm", who=viewer).problem(403, "forbidden")
    contexts("GET", "/warm", who=viewer).problem(404, "not-found")
    contexts("DELETE", "/warm").problem(404, "not-found")
    for body, field in [
        ({"spec": {}}, "name"),
        ({"name": "warm"}, "spec"),
        ({"name": "warm", "spec": {"maxWorkres": 1}}, "spec.maxWorkres"),
        ({"name": "warm", "spec": {"minWorkers": 3, "maxWorkers": 2}}, "spec.minWorkers"),
        ({"name": "warm", "spec": {"compute": {"workers": 2}}}, "spec.compute.workers"),
    ]:
        told = contexts("POST", "", body).problem(422, "invalid")
        assert [fault["field"] for fault in told["errors"]] == [field], told
    made = contexts("POST", "", warm).good(201)
    assert made.headers["location"] == f"/api/v1/namespaces/{queries.namespace}/contexts/warm"
    assert made.json()["spec"]["maxWorkers"] == 2 and made.json()["labels"] == {"team": "x"}
    there = kube.get("computecontexts", queries.namespace, "warm")["metadata"]
    assert there["uid"] == made.json()["uid"]
    assert there["annotations"]["floe.dev/submitted-by"] == f"system:serviceaccount:{queries.namespace}:ann"
    contexts("POST", "", warm).problem(409, "name-taken")
    # A query waits for it, runs there, and its rows are read as those of any other.
    spec = {"plan": {"python": {"script": WORDS}}, "compute": {"contextRef": {"name": "warm"}}}
    name = submitted(ann, {"name": "quick", "spec": spec})
    status = ann.ended(name)
    assert status["phase"] == "Succeeded" and status["context"]["name"] == "warm", status
    rows = ann.ask("GET", f"/{name}/result?limit=2").good().json()
    assert rows["total"] == 25 and rows["rows"] == [{"n": 0, "word": "w0"}, {"n": 1, "word": "w1"}]
    parquet = ann.ask("GET", f"/{name}/result?format=parquet").good()
    assert pl.read_parquet(io.BytesIO(parquet.body)).height == 25
    # Of the pods' lines those that name it.
    logs = ann.ask("GET", f"/{name}/logs").good().json()
    assert logs["complete"] and {line["pod"] for line in logs["lines"]} >= {status["context"]["coordinator"]}, logs
    assert "query succeeded" in [line["message"] for line in logs["lines"]], logs

    def ready():
        told = contexts("GET", "/warm").good().json()
        return told["status"].get("phase") == "Ready" and told

    shown = kube.wait("it is ready", 60, ready)
    assert shown["uid"] == there["uid"] and shown["status"]["workers"]["wanted"] >= 1
    (item,) = contexts("GET", "?labels=team%3Dx", who=viewer).good().json()["items"]
    assert item["name"] == "warm" and item["phase"] == "Ready" and "/" in item["workers"]
    assert contexts("GET", "?labels=team%3Dy").good().json() == {"items": []}
    assert contexts("DELETE", "/warm").good(202).body == b""
    kube.wait(
        "it is gone with its pods", 60, lambda: not kube.items("pods", queries.namespace, "floe.dev/context=warm")
    )
    contexts("GET", "/warm").problem(404, "not-found")
    assert "give the query a sink" in ann.ask("GET", f"/{name}/result").problem(410, "result-gone")["detail"]
