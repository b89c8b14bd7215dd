"""The HTTP API: submitted, followed and read over HTTP, by those who may and by nobody else; as its page prints it, and against
its own document."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from tests.e2e import http_api, kube, store
from tests.e2e.http_api import Caller, curl, forward, straight
from tests.e2e.queries import SMALL
from tests.e2e.test_operator import CHART, helm

ONE = {"workers": 1, **SMALL}
WORDS = "result = pl.LazyFrame({'n': range(25), 'word': [f'w{n}' for n in range(25)]})"


@pytest.fixture
def ann(queries) -> Caller:
    """Somebody who may edit in the namespace."""
    return Caller(queries.namespace, "ann", "edit")


def words(script: str = WORDS, **spec) -> dict:
    return {"spec": {"plan": {"python": {"script": script}}, "compute": ONE, **spec}}


def submitted(caller: Caller, body: dict, *options: str) -> str:
    return caller.submit(body, *options).good(201).json()["name"]


def test_the_page_runs_as_printed(queries, tmp_path):
    page = (kube.REPO / "docs" / "http-api.md").read_text()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The page has a namespace and a port of its own.
    commands = http_api.page(page.replace("analytics", queries.namespace).replace("8090", str(port)))
    assert len(commands) > 10
    http_api.run(commands, tmp_path, {})


def test_the_document_is_the_one_in_the_repository():
    served = curl(f"{forward()}/openapi.json").good()
    assert served.body == (kube.REPO / "docs" / "openapi.json").read_bytes()
    assert served.headers["content-type"] == "application/json" and served.headers["x-content-type-options"] == "nosniff"


def test_sql_over_a_store_is_read_in_every_format(queries, ann):
    table = {"uri": f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet", "format": "parquet"}
    sql = "select l_suppkey, count(*) as n, sum(l_quantity) as q from lineitem group by l_suppkey order by l_suppkey"
    spec = {"plan": {"sql": sql}, "tables": {"lineitem": table}, "storage": store.STORAGE, "compute": {"workers": 2, **SMALL}}
    made = ann.submit({"name": "groups", "labels": {"team": "x"}, "spec": spec}).good(201)
    assert made.headers["location"] == f"/api/v1/namespaces/{queries.namespace}/queries/groups"
    shown = made.json()
    assert shown["name"] == "groups" and shown["labels"] == {"team": "x"} and shown["spec"]["plan"]["sql"] == sql
    status = ann.ended("groups")
    assert status["phase"] == "Succeeded", status
    lines = pl.scan_parquet(f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet", storage_options=store.options())
    want = pl.SQLContext(lineitem=lines).execute(sql, eager=True)
    get = lambda rest, *options: ann.ask("GET", f"/groups/result{rest}", *options).good()  # noqa: E731
    arrow = get("?format=arrow")
    assert arrow.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert int(arrow.headers["floe-rows-total"]) == want.height
    assert pl.read_ipc_stream(io.BytesIO(arrow.body)).equals(want)
    parquet = get("", "-H", "Accept: application/vnd.apache.parquet")
    assert pl.read_parquet(io.BytesIO(parquet.body)).equals(want)
    assert pl.read_csv(io.BytesIO(get("?format=csv").body))["n"].to_list() == want["n"].to_list()
    lined = [json.loads(line) for line in get("?format=ndjson").body.splitlines()]
    assert [row["l_suppkey"] for row in lined] == want["l_suppkey"].to_list()
    # Page by page, as the answers lead.
    rows, next_page = [], f"/api/v1/namespaces/{queries.namespace}/queries/groups/result?limit=300"
    while next_page:
        answer = curl("-H", f"Authorization: Bearer {ann.token}", forward() + next_page).good()
        told = answer.json()
        assert told["offset"] == len(rows) and told["total"] == want.height
        rows += told["rows"]
        next_page = told.get("next")
        assert answer.headers.get("link") == (f'<{next_page}>; rel="next"' if next_page else None)
    assert rows == lined and len(rows) == want.height
    part = get("?format=parquet&offset=990&limit=100")
    assert pl.read_parquet(io.BytesIO(part.body)).equals(want.slice(990, 100))
    beyond = get("?offset=1000000").json()
    assert beyond["rows"] == [] and "next" not in beyond
    listed = ann.ask("GET", "?labels=team%3Dx").good().json()["items"]
    assert [(one["name"], one["phase"], one["rows"]) for one in listed] == [("groups", "Succeeded", want.height)]
    assert ann.ask("GET", "?labels=team%3Dy").good().json() == {"items": []}
    assert ann.ask("GET", "/groups/result?limit=100001").problem(422, "invalid")["errors"][0]["field"] == "limit"
    for rest, field in [("?limit=0", "limit"), ("?format=xml", "format"), ("?page=2", "page")]:
        assert ann.ask("GET", f"/groups/result{rest}").problem(400, "bad-request")["errors"][0]["field"] == field
    ann.ask("GET", "/groups/result", "-H", "Accept: text/html").problem(406, "not-acceptable")
    # The result goes with its coordinator, and what is said then says so.
    kube.kubectl("delete", "pod", "groups-1-c", "-n", queries.namespace, timeout=90)
    queries.no_pods("groups")
    assert "give the query a sink" in ann.ask("GET", "/groups/result").problem(410, "result-gone")["detail"]


def test_a_serialized_plan_and_nested_rows(queries, ann):
    frame = pl.LazyFrame({"g": [1, 1, 2], "t": ["a", None, "b"]}).group_by("g", maintain_order=True).agg("t")
    inline = base64.b64encode(frame.serialize()).decode()
    name = submitted(ann, {"spec": {"plan": {"dsl": {"inline": inline}}, "compute": ONE}})
    assert name.startswith("q-") and ann.ended(name)["phase"] == "Succeeded"
    assert ann.ask("GET", f"/{name}/result").good().json()["rows"] == [{"g": 1, "t": ["a", None]}, {"g": 2, "t": ["b"]}]
    told = ann.ask("GET", f"/{name}/result?format=csv").problem(422, "invalid")
    assert told["errors"][0]["field"] == "format" and '"t"' in told["detail"], told


def test_a_result_in_a_sink_is_told_by_its_address(queries, ann):
    spec = queries.spec("result = scan('nation')")
    spec["sink"]["uri"] = uri = f"s3://{store.BUCKET}/{queries.prefix}/sunk/"
    name = submitted(ann, {"name": "sunk", "spec": spec})
    told = ann.ask("GET", f"/{name}/result")
    assert told.status == 409, told.body
    assert ann.ended(name)["phase"] == "Succeeded"
    told = ann.ask("GET", f"/{name}/result").problem(409, "result-elsewhere")
    assert told["resultUri"].rstrip("/") == uri.rstrip("/"), told


def test_progress_is_told_as_it_happens_and_cancel_ends_it(queries, ann, slow):
    spec = queries.spec(slow, sink=None)
    name = submitted(ann, {"name": "long", "spec": spec})
    with ThreadPoolExecutor() as pool:
        told = pool.submit(ann.events, name)
        queries.phase(name, "Running", limit_seconds=120)
        ann.ask("GET", f"/{name}/result").problem(409, "not-ended")
        assert ann.ask("POST", f"/{name}/cancel").good(202).json()["spec"]["cancel"] is True
        events = told.result(timeout=120)
    phases = [data["status"].get("phase") for _, data in events]
    assert events[-1][0] == "end" and phases[-1] == "Cancelled" and "Running" in phases, phases
    assert all(kind == "status" for kind, _ in events[:-1])
    # Again is the same; what has ended otherwise cannot be cancelled.
    assert ann.ask("POST", f"/{name}/cancel").good(200).json()["status"]["phase"] == "Cancelled"
    ann.ask("GET", f"/{name}/result").problem(409, "no-result")
    bad = submitted(ann, words("result = pl.LazyFrame({'a': [1]}).select('no_such')"))
    assert ann.ended(bad)["phase"] == "Failed"
    ann.ask("POST", f"/{bad}/cancel").problem(409, "already-ended")
    assert "no_such" in ann.ask("GET", f"/{bad}/result").problem(409, "no-result")["detail"]


def test_a_deleted_query_is_gone_and_its_followers_are_told(queries, ann, slow):
    name = submitted(ann, {"name": "gone", "spec": queries.spec(slow, sink=None, suspend=True)})
    with ThreadPoolExecutor() as pool:
        told = pool.submit(ann.events, name)
        queries.phase(name, "Suspended", limit_seconds=60)
        assert ann.ask("DELETE", f"/{name}").good(202).body == b""
        assert told.result(timeout=60)[-1][0] == "deleted"
    gets, posts = ["", "/result", "/progress", "/logs"], ["/cancel", "/suspend", "/resume"]
    for method, rest in [*(("GET", rest) for rest in gets), *(("POST", rest) for rest in posts), ("DELETE", "")]:
        ann.ask(method, f"/{name}{rest}").problem(404, "not-found")


def test_nobody_gets_in_without_a_token_of_the_cluster(queries, ann):
    other = ann.new_token("--audience", "somebody-else")
    for token in ["", "abc", ann.token[:-3] + "AAA", other]:
        for method, rest in [("GET", ""), ("POST", ""), ("GET", "/x"), ("GET", "/x/result"), ("GET", "/x/progress"), ("DELETE", "/x")]:
            answer = ann.ask(method, rest, token=token)
            answer.problem(401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")
    curl("-H", f"Authorization: Basic {ann.token}", ann.path()).problem(401, "unauthenticated")
    ann.ask("GET", "").good()


def test_a_caller_may_do_what_their_roles_allow_and_no_more(queries, ann):
    name = submitted(ann, {"name": "shown", **words()})
    ann.ended(name)
    nobody, viewer = Caller(queries.namespace, "nobody"), Caller(queries.namespace, "viewer", "view")
    seen = [("GET", ""), ("GET", "/shown"), ("GET", "/shown/progress"), ("GET", "/shown/logs")]
    changing = [("POST", "/shown/cancel"), ("POST", "/shown/suspend"), ("POST", "/shown/resume"), ("DELETE", "/shown")]
    every = [*seen, ("POST", ""), ("GET", "/shown/result"), *changing]
    for method, rest in every:
        told = nobody.ask(method, rest).problem(403, "forbidden")["detail"]
        assert f"system:serviceaccount:{queries.namespace}:nobody may not " in told
    # Who sees queries does not thereby see their rows.
    for method, rest in every:
        answer = viewer.ask(method, rest)
        assert answer.status == (200 if (method, rest) in seen else 403), (method, rest, answer.body)
    # Nobody reaches into another namespace, and whether there is anything they do not learn.
    for method, rest in every:
        ann.ask(method, rest, namespace="floe-system").problem(403, "forbidden")
        ann.ask(method, rest, namespace="no-such-namespace").problem(403, "forbidden")
    # A Role for one query by its name.
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "one"},
        "rules": [{"apiGroups": ["floe.dev"], "resources": ["distributedqueries/result"], "resourceNames": ["shown"], "verbs": ["get"]}],
    }  # fmt: skip
    kube.apply(role, namespace=queries.namespace)
    kube.kubectl("create", "rolebinding", "one", "--role=one", f"--serviceaccount={queries.namespace}:nobody", "-n", queries.namespace)
    kube.wait("the new right counts", 15, lambda: nobody.ask("GET", "/shown/result").status == 200)
    nobody.ask("GET", "/other/result").problem(403, "forbidden")
    nobody.ask("GET", "/shown").problem(403, "forbidden")
    # A right that is taken away is gone in seconds.
    kube.kubectl("delete", "rolebinding", "one", "-n", queries.namespace)
    kube.wait("the right is gone", 20, lambda: nobody.ask("GET", "/shown/result").status == 403)
    # Who has gone has no token any more.
    kube.kubectl("delete", "serviceaccount", "viewer", "-n", queries.namespace)
    kube.wait("the token is void", 40, lambda: viewer.ask("GET", "").status == 401)


def test_the_same_request_makes_one_query(queries, ann):
    key = ["-H", f"Idempotency-Key: {uuid.uuid4()}"]
    body = words(suspend=True)
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: ann.submit(body, *key), range(6)))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [201], [answer.body for answer in answers]
    (name,) = {answer.json()["name"] for answer in answers}
    assert {answer.headers.get("idempotency-replayed") for answer in answers if answer.status == 200} == {"true"}
    assert len(ann.ask("GET", "").good().json()["items"]) == 1
    told = ann.submit(words(suspend=True, priority=3), *key).problem(409, "key-reused")
    assert told["errors"][0]["field"] == "Idempotency-Key" and name in told["detail"]
    named = ann.submit({"name": "own", **body}, *key).problem(422, "invalid")
    assert named["errors"][0]["field"] == "name"
    # Keys of another caller are others; a name is nobody's twice.
    bob = Caller(queries.namespace, "bob", "edit")
    assert bob.submit(body, *key).good(201).json()["name"] != name
    ann.submit({"name": "own", **body}).good(201)
    assert ann.submit({"name": "own", **body}).problem(409, "name-taken")["errors"][0]["field"] == "name"
    for wrong in ["a b", "x" * 256]:
        ann.submit(body, "-H", f"Idempotency-Key: {wrong}").problem(400, "bad-request")


def test_faults_are_told_by_their_field(queries, ann):
    for body, fields in [
        ({"spec": {"plan": {"sql": ""}}}, ["spec.plan.sql"]),
        ({"spec": {"plan": {"sql": "select 1", "dsl": {"inline": "x"}}}}, ["spec.plan"]),
        ({"spec": {"plan": {"sql": "select 1"}, "compute": {"workers": 0, "memroy": "1Gi"}}}, ["spec.compute.memroy", "spec.compute.workers"]),
        ({"name": "Wrong Name", "spec": {"plan": {"sql": "select 1"}}}, ["name"]),
        ({"labels": {"a b": "x"}, "spec": {"plan": {"sql": "select 1"}}}, ["metadata.labels"]),
    ]:  # fmt: skip
        told = ann.submit(body).problem(422, "invalid")
        assert sorted(fault["field"] for fault in told["errors"]) == fields and all(fault["message"] for fault in told["errors"]), told
    ann.submit(b"{").problem(400, "bad-request")
    ann.submit(b"[" * 5000).problem(400, "bad-request")
    ann.ask("POST", "", "-H", "Content-Type: text/plain", body=b"select 1").problem(415, "media-type")
    for place in ["/Upper", "/a.b", "/..%2F..%2Fpods", "/" + "x" * 60]:
        assert ann.ask("GET", place).problem(400, "bad-request")["errors"][0]["field"] == "name"
    curl(f"{forward()}/api/v1/pods").problem(404, "not-found")
    answer = ann.ask("PUT", "/x")
    answer.problem(405, "method-not-allowed")
    assert set(answer.headers["allow"].replace(" ", "").split(",")) >= {"GET", "DELETE"}
    for rest, field in [("?continue=nonsense", "continue"), ("?labels=%3D", "labels")]:
        assert ann.ask("GET", rest).problem(422, "invalid")["errors"][0]["field"] == field


def test_a_caller_gets_no_more_than_its_share(queries, ann):
    large = words(WORDS + "\n#" + "x" * (3 << 20))
    ann.submit(large).problem(413, "too-large")
    name = submitted(ann, {"name": "held", **words(suspend=True)})
    options = ["-sS", "-N", "-o", "/dev/null", "-H", f"Authorization: Bearer {ann.token}", ann.path(f"/{name}/progress")]
    streams = [subprocess.Popen(["curl", *options]) for _ in range(16)]
    try:
        told = kube.wait("streams are bounded", 20, lambda: (a := ann.ask("GET", f"/{name}/progress", "--max-time", "2")).status == 429 and a)
        assert "16 streams of one caller" in told.problem(429, "too-many-requests")["detail"]
        bob = Caller(queries.namespace, "bob", "edit")
        assert bob.ask("GET", f"/{name}/progress", "-N", "--max-time", "3").status in (0, 200), "others have their own"
    finally:
        for stream in streams:
            stream.kill()
            stream.wait()
    # Room is given back when the readers are gone.
    kube.wait("streams are free again", 30, lambda: ann.ask("GET", f"/{name}/progress", "-N", "--max-time", "1").status != 429)
    bob = Caller(queries.namespace, "hasty", "view")
    listing = ["-H", f"Authorization: Bearer {bob.token}", *["-o", "/dev/null", bob.path("?limit=1")] * 400]
    done = subprocess.run(["curl", "-sS", "--parallel", "--parallel-max", "20", "-w", "%{http_code} %header{retry-after}\n", *listing], capture_output=True, text=True, timeout=100)  # fmt: skip
    codes = [line.split() for line in done.stdout.splitlines()]
    refused = [code for code in codes if code[0] == "429"]
    assert {code[0] for code in codes} == {"200", "429"} and len(refused) > 10 and all(len(code) == 2 for code in refused), codes[:50]


LARGE = """
lines = scan("lineitem")
result = pl.concat([lines.select("l_orderkey", "l_partkey", "l_suppkey", "l_linenumber", "l_shipdate")] * 20)
"""


def test_a_large_result_streams_through_a_small_operator(queries, ann):
    """More than the operator's limit of memory, to a reader that is slow at first."""
    name = submitted(ann, {"name": "large", "spec": queries.spec(LARGE, sink=None, compute={"workers": 2, **SMALL, "memory": "768Mi"})})
    status = ann.ended(name, timeout=240)
    assert status["phase"] == "Succeeded", status
    # So many bytes through kubectl, API server and kubelet would cost more than all of the test.
    address = ann.path(f"/{name}/result?format=arrow").replace(forward(), straight())
    command = ["curl", "-sS", "-H", f"Authorization: Bearer {ann.token}", address]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE)
    first = reader.stdout.read(1 << 20)
    time.sleep(5)
    pods = kube.items("pods", "floe-system", "app.kubernetes.io/component=operator")
    node = pods[0]["spec"]["nodeName"]
    stats = kube.request("GET", f"/api/v1/nodes/{node}/proxy/stats/summary")
    used = [p["memory"]["workingSetBytes"] for p in stats["pods"] if p["podRef"]["name"] in {one["metadata"]["name"] for one in pods}]
    whole = first + reader.stdout.read()
    assert reader.wait(timeout=60) == 0
    assert len(whole) > 300_000_000, len(whole)
    got = pl.read_ipc_stream(io.BytesIO(whole))
    assert got.height == status["rows"]
    assert used and max(used) < 200 << 20, used
    again = kube.items("pods", "floe-system", "app.kubernetes.io/component=operator")
    assert [c["restartCount"] for p in again for c in p["status"]["containerStatuses"]] == [
        c["restartCount"] for p in pods for c in p["status"]["containerStatuses"]
    ]


def test_it_holds_to_its_own_document(queries, ann, tmp_path):
    """Schemathesis makes requests of the document, good and bad ones, and holds the answers against it."""
    # What it makes is looked at by the operator, but runs nothing.
    kube.apply(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}},
        namespace=queries.namespace,
    )
    submitted(ann, {"name": "there", **words(suspend=True)})
    there = json.dumps({"name": "there", "spec": {}}).encode()
    ann.ask("POST", "", "-H", "Content-Type: application/json", kind="contexts", body=there).good(201)
    config = tmp_path / "schemathesis.toml"
    config.write_text((kube.REPO / "tests" / "e2e" / "schemathesis.toml").read_text().replace("NAMESPACE", queries.namespace))
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run", f"{straight()}/openapi.json",
        "-H", f"Authorization: Bearer {ann.token}", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-4000:]
    assert re.search(r"[1-9][0-9]+ generated", done.stdout) or "passed" in done.stdout, done.stdout[-3000:]
    ann.ask("GET", "").good()


@pytest.mark.alone
def test_a_certificate_of_ones_own(queries, tmp_path):
    name = "floe-http-api.floe-system.svc"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    make += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "chain.pem")]
    subprocess.run(make, check=True, capture_output=True, timeout=60)
    kube.kubectl("create", "secret", "tls", "api-tls", "-n", "floe-system", f"--cert={tmp_path}/chain.pem", f"--key={tmp_path}/key.pem")
    upgrade = ["upgrade", "floe", CHART, "-n", "floe-system", "--reuse-values", "--wait", "--timeout", "120s", "--set-json"]
    try:
        helm(*upgrade, 'httpApi={"tls": {"secretName": "api-tls"}, "audiences": ["floe"]}')
        ann = Caller(queries.namespace, "ann", "edit")
        command = ["kubectl", "port-forward", "-n", "floe-system", "service/floe-http-api", ":443"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            port = re.search(r":([0-9]+) ->", process.stdout.readline())[1]
            to = ["--connect-to", f"{name}:443:127.0.0.1:{port}", f"https://{name}/api/v1/namespaces/{queries.namespace}/queries"]
            trusted = ["--cacert", str(tmp_path / "chain.pem")]
            assert b"certificate" in curl("-H", f"Authorization: Bearer {ann.token}", *to).body, "it is not trusted as it is"
            token = ann.new_token("--audience", "floe")
            assert curl(*trusted, "-H", f"Authorization: Bearer {token}", *to).good().json() == {"items": []}
            # A token for the API server is none for Floe then.
            told = curl(*trusted, "-H", f"Authorization: Bearer {ann.token}", *to).problem(401, "unauthenticated")
            assert told["status"] == 401
            plain = curl(f"http://127.0.0.1:{port}/healthz")
            assert plain.status == 0, plain.body
        finally:
            process.kill()
    finally:
        helm(*upgrade, 'httpApi={"tls": {"secretName": ""}, "audiences": []}')
        kube.kubectl("delete", "secret", "api-tls", "-n", "floe-system")
