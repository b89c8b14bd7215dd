"""The CustomResourceDefinition on the real API server: rules, defaults, columns, explanations."""

from __future__ import annotations

import concurrent.futures
import json
import re

import pytest
import yaml

from tests.e2e import kube
from tests.e2e.queries import python

SOUND = {
    "apiVersion": "floe.dev/v1alpha1",
    "kind": "DistributedQuery",
    "metadata": {"name": "q", "namespace": "default"},
    "spec": {"plan": python("result = 1")},
}
# Faults of the YAML that kubectl mends or does not see: what reaches the API server is sound.
YAML = {"a key given twice", "a tag", "a key that is a number"}
# What the API server cannot know: it takes these, and the operator tells.
OPERATORS = {
    "scan tasks of a few bytes", "a script without a result", "a separator that is not ASCII", "a label that is none",
    "a pod template that is none", "a level that gzip has not", "a uri without a bucket", "empty sql",
    "a glob over a delta table", "dsl that is not base64", "a level where there is none",
    "a uri with a scheme of another world", "a compression that csv has not", "an environment variable given twice",
    "a uri with one slash", "an endpoint without a scheme", "a separator that is the quote",
    "more memory for a script than the coordinator has", "a Secret's name that asks for something else", "a label key of Floe's own", "a partition column twice", "a uri with an unknown scheme",
}  # fmt: skip


def cases() -> dict[str, str]:
    """The specs of api/tests/broken_specs.txt, completed as that test completes them."""
    text = (kube.REPO / "api/tests/broken_specs.txt").read_text()
    found = {}
    for case in text.split("\n=== ")[1:]:
        name, _, body = case.partition("\n")
        body = body.split("--- errors\n")[0]
        if body.startswith("spec:"):
            head = "apiVersion: floe.dev/v1alpha1\nkind: DistributedQuery\nmetadata: {name: q}\n"
            plan = "" if "\n  plan:" in body else "  plan: {python: {script: 'result = scan(\"t\")'}}\n"
            body = head + body.rstrip("\n") + "\n" + plan
        found[name] = body
    return found


def refusal(text: str) -> str | None:
    """What the API server (or kubectl before it) says against an object; None when it takes it."""
    done = kube.run("create", "--dry-run=server", "--validate=strict", "-n", "default", "-f", "-", input=text)
    return None if done.returncode == 0 else done.stderr


def test_broken_specs_are_refused():
    texts = cases()
    assert len(texts) >= 40
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = dict(zip(texts, pool.map(refusal, texts.values()), strict=True))
    taken = {name for name, answer in answers.items() if answer is None and not name.startswith("sound")}
    known = OPERATORS | YAML
    assert taken == known, f"taken and not named here: {taken - known}; refused by now: {known - taken}"


def test_the_operator_tells_what_the_api_server_takes(queries):
    texts = cases()
    names = {}
    for number, case in enumerate(sorted(OPERATORS)):
        query = yaml.safe_load(texts[case])
        names[case] = query["metadata"]["name"] = f"broken-{number}"
        kube.kubectl("create", "-n", queries.namespace, "-f", "-", input=json.dumps(query))
    for case, name in names.items():
        status = queries.phase(name, "Failed", limit_seconds=30)
        assert status["reason"] in ("BadSpec", "Unsupported") and status["message"], f"{case}: {status}"
        assert not queries.pods(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan": {}}, "exactly one"),
        ({"plan": {"sql": "select 1", "python": {"script": "x"}}}, "exactly one"),
        ({"compute": {"minWorkers": 3, "maxWorkers": 2}}, "compute.minWorkers must not be above compute.maxWorkers"),
        ({"compute": {"workers": 2, "maxWorkers": 3}}, "either compute.workers or"),
        ({"compute": {"cpus": "0"}}, "compute.cpus must be above 0"),
        ({"compute": {"memory": "1Mi"}}, "compute.memory must be at least 64Mi"),
        ({"compute": {"env": [{"name": "FLOE_TOKEN", "value": "x"}]}}, "Floe's own"),
        ({"compute": {"scratch": {"medium": "claim"}}}, "needs scratch.size"),
        ({"sink": {"uri": "s3://b/out/"}}, "write sink.format"),
        ({"sink": {"uri": "https://b/x.parquet"}}, "cannot be written by http"),
        ({"sink": {"uri": "s3://b/t", "format": "delta", "mode": "append", "overwrite": "partitions"}}, "sink.mode: overwrite only"),
        ({"sink": {"uri": "s3://b/t/", "format": "csv", "schemaEvolution": "merge"}}, "go with tables only"),
        ({"tables": {"t": {"uri": "s3://b/x.parquet", "storage": "no"}}}, "must be the name of one of spec.storages"),
        ({"suspend": True, "cancel": True}, "exclude each other"),
        ({"activeDeadlineSeconds": 0}, "greater than or equal to 1"),
        ({"backoffLimit": 101}, "less than or equal to 100"),
    ],
)  # fmt: skip
def test_rules_say_what_to_write(change, message):
    answer = refusal(json.dumps(SOUND | {"spec": SOUND["spec"] | change}))
    assert answer and message in answer, answer


def test_names_that_cannot_name_pods():
    for name in ("9lives", "q" * 51, "a.b"):
        answer = refusal(json.dumps(SOUND | {"metadata": {"name": name}}))
        assert answer and "names pods" in answer, answer


def test_examples_are_taken():
    for path in sorted((kube.REPO / "examples").rglob("*.yaml")):
        assert refusal(path.read_text()) is None, path


def test_defaults():
    done = kube.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=json.dumps(SOUND))
    spec = json.loads(done)["spec"]
    assert spec["compute"]["cpus"] in ("1", 1) and spec["compute"]["memory"] == "2Gi"
    assert spec["compute"]["coordinator"] == {"cpus": "500m", "memory": "1Gi", "scratch": "4Gi"}
    assert "cpuLimit" not in spec["compute"] and "memory" not in spec["plan"]["python"], "what depends on others is left open"
    assert spec["backoffLimit"] == 2 and spec["suspend"] is False and spec["cancel"] is False
    assert spec["execution"]["mode"] == "auto"


def test_what_has_started_does_not_change(queries):
    queries.create("fixed", queries.spec("result = pl.LazyFrame({'x': [1]})", sink=None))
    queries.wait("fixed", "a start", lambda status: status.get("startedAt"), 60)
    patch = json.dumps({"spec": {"plan": {"python": {"script": "result = 2"}}}})
    done = kube.run("patch", kube.QUERIES, "fixed", "-n", queries.namespace, "--type=merge", "-p", patch)
    assert done.returncode != 0 and "cannot change once the query has started" in done.stderr


def test_status_is_not_the_users_to_write(queries):
    queries.create("mine", queries.spec(suspend=True))
    kube.patch("distributedqueries", queries.namespace, "mine", {"status": {"phase": "Succeeded"}})
    queries.phase("mine", "Suspended", limit_seconds=30)


def test_columns_tell_the_story(queries):
    queries.create("shown", queries.spec())
    queries.succeeded("shown")
    lines = kube.kubectl("get", "dq", "-n", queries.namespace).splitlines()
    assert lines[0].split() == ["NAME", "PHASE", "PROGRESS", "WORKERS", "STAGES", "ROWS", "AGE"]
    row = lines[1].split()
    assert row[:4] == ["shown", "Succeeded", "100%", "2"] and re.fullmatch(r"\d+/\d+", row[4]), lines[1]
    assert int(row[5]) > 0
    wide = kube.kubectl("get", "dq", "-n", queries.namespace, "-o", "wide").splitlines()
    assert wide[0].split()[-6:] == ["DURATION", "WAITED", "SHUFFLED", "ATTEMPT", "RESULT", "REASON"]
    assert f"s3://floe/{queries.prefix}/shown/" in wide[1] and "Completed" in wide[1]
    assert "shown" in kube.kubectl("get", "all", "-n", queries.namespace)


def test_explain_describes_every_field():
    crd = json.loads(kube.kubectl("get", "crd", kube.QUERIES, "-o", "json"))
    bare = []

    def walk(schema, path):
        for name, child in schema.get("properties", {}).items():
            if not child.get("description"):
                bare.append(f"{path}.{name}")
            walk(child, f"{path}.{name}")
            walk(child.get("items") or {}, f"{path}.{name}")
            walk(child.get("additionalProperties") or {}, f"{path}.{name}")

    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        walk(schema["properties"][part], part)
    # Fields of Kubernetes' own types (tolerations, env) come without words of ours.
    ours = [path for path in bare if not re.search(r"\.(env|envFrom|tolerations|imagePullSecrets)\b", path)]
    assert not ours
    text = kube.kubectl("explain", "distributedquery.spec.compute.memory")
    assert "Memory of each worker" in text
    assert yaml.safe_load(kube.kubectl("explain", "dq", "--output=plaintext").splitlines()[0]) == {"GROUP": "floe.dev"}
