"""Every way a query can fail or wait, provoked for real: the status says what it is within seconds, in the cluster's or
Polars' own words, and nothing is left afterwards (the fixture looks)."""

from __future__ import annotations

import re
import time

import pytest

from tests.e2e import kube, store
from tests.e2e.queries import GROUPS


def test_image_that_cannot_be_pulled(queries):
    queries.create("image", queries.spec(compute={"image": "localhost/no-such-image:1"}, startingDeadlineSeconds=25))
    status = queries.told("image", "ImagePull")
    assert status["phase"] == "Starting"
    status = queries.failed("image", "StartingDeadline", limit_seconds=60)
    assert "no-such-image" in status["message"]


def test_image_whose_name_is_none(queries):
    queries.create("image", queries.spec(compute={"image": "Not An Image"}))
    status = queries.failed("image", "ImagePull", limit_seconds=30)
    assert "Not An Image" in status["message"]


def test_a_request_that_no_node_has(queries):
    queries.create("big", queries.spec(compute={"cpus": "500"}))
    status = queries.told("big", "Unschedulable")
    assert "Insufficient cpu" in status["message"] + str(status["conditions"])
    assert any(event["type"] == "Warning" and "Insufficient cpu" in event["message"] for event in queries.events("big"))
    queries.change("big", cancel=True)
    queries.phase("big", "Cancelled")


def test_a_node_selector_that_no_node_has(queries):
    queries.create("where", queries.spec(compute={"nodeSelector": {"no.such/label": "x"}}, startingDeadlineSeconds=10))
    status = queries.failed("where", "StartingDeadline", limit_seconds=45)
    assert "node selector" in status["message"] or "affinity" in status["message"]


def test_a_secret_that_comes_later(queries):
    queries.create("late", queries.spec(storage={"secretRef": {"name": "later"}}))
    status = queries.told("late", "MissingSecret")
    assert "later" in status["message"]
    kube.apply(store.secret("later", queries.namespace))
    queries.succeeded("late")


def test_an_environment_from_a_config_map_that_comes_later(queries):
    spec = queries.spec(compute={"envFrom": [{"configMapRef": {"name": "settings"}}]})
    queries.create("late", spec)
    status = queries.told("late", "MissingConfigMap")
    assert "settings" in status["message"] + str(status["conditions"])
    meta = {"name": "settings", "namespace": queries.namespace}
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"A": "b"}})
    queries.succeeded("late")


def test_a_bucket_that_is_not_there(queries):
    spec = queries.spec()
    spec["tables"]["lineitem"]["uri"] = "s3://no-such-bucket/lineitem/*.parquet"
    queries.create("bucket", spec)
    status = queries.failed("bucket", "MissingData", limit_seconds=90)
    assert "no-such-bucket" in status["message"]


def test_files_that_are_not_there(queries):
    spec = queries.spec()
    spec["tables"]["lineitem"]["uri"] = f"s3://{store.BUCKET}/nowhere/*.parquet"
    queries.create("files", spec)
    status = queries.failed("files", "MissingData", limit_seconds=90)
    assert "nowhere" in status["message"]


def test_credentials_that_are_refused(queries):
    kube.apply(store.secret("wrong", queries.namespace, secret="wrong"))
    queries.create("denied", queries.spec(storage={"secretRef": {"name": "wrong"}}))
    status = queries.failed("denied", "AccessDenied", limit_seconds=90)
    assert f"s3://{store.BUCKET}" in status["message"]


def test_a_sink_that_holds_something(queries):
    store.client().put_object(Bucket=store.BUCKET, Key=f"{queries.prefix}/there/old.parquet", Body=b"x")
    queries.create("there", queries.spec(sink={"mode": "error"}))
    queries.failed("there", "SinkExists", limit_seconds=90)
    assert store.keys(f"{queries.prefix}/there/") == [f"{queries.prefix}/there/old.parquet"]


@pytest.mark.parametrize(
    ("script", "reason", "words"),
    [
        ("result = scan('lineitem').select('no_such_column')", "BadPlan", "no_such_column"),
        ("result = scan('lineitem').filter(", "BadScript", "SyntaxError"),
        ("raise ValueError('from the script')\nresult = None", "BadScript", "from the script"),
        ("import time\ntime.sleep(600)\nresult = None", "BadScript", "timeoutSeconds"),
        (
            "import subprocess, time\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\ntime.sleep(600)\nresult = None",
            "BadScript", "timeoutSeconds",
        ),
        (
            "import os\nwith open(os.environ['TMPDIR'] + '/x', 'wb') as file:\n  for _ in range(60): file.write(b'x' * (10 << 20))\nresult = None",
            # Whichever comes first: the end of the file's room, or of that of its directory.
            "BadScript", "File too large|wrote more than 256 MiB",
        ),
        ("result = scan('lineitem').select(pl.col('l_comment').cast(pl.Int64))", "QueryFailed", "conversion"),
    ],
    ids=["column", "syntax", "raises", "sleeps", "leaves", "writes", "data"],
)
def test_faults_of_the_plan(queries, script, reason, words):
    spec = queries.spec(script)
    if "sleep" in script:
        spec["plan"]["python"]["timeoutSeconds"] = 5
    spec["tables"] = {"lineitem": {"format": "parquet", "uri": f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet"}}
    queries.create("plan", spec)
    begin = time.monotonic()
    queries.phase("plan", "Planning", "Starting", "Failed", limit_seconds=60)
    status = queries.failed("plan", reason, limit_seconds=90)
    assert time.monotonic() - begin < 60, "a script's limit bounds all that it starts"
    assert re.search(words, status["message"]), status["message"]
    assert status["attempt"] == 1, "a user's error is not tried again"


def test_a_worker_that_runs_out_of_memory(queries):
    # Made by the worker out of nothing: some 3 GB of numbers.
    script = "result = pl.LazyFrame({'n': [400_000_000]}).select(pl.int_range(0, pl.col('n').first()).reverse().alias('x')).sort('x')"
    queries.create("oom", queries.spec(script, workers=1, compute={"memory": "300Mi", "cpus": "500m"}, backoffLimit=0))
    status = queries.failed("oom", "OutOfMemory", limit_seconds=120)
    assert "300Mi" in status["message"] and "compute.memory" in status["message"], status["message"]


def test_a_coordinator_that_runs_out_of_memory(queries):
    script = "x = 'x' * (1 << 30)\nresult = pl.LazyFrame({'x': [1]})"
    spec = queries.spec(script, backoffLimit=0, compute={"coordinator": {"memory": "128Mi"}})
    queries.create("oom", spec)
    status = queries.phase("oom", "Failed", limit_seconds=120)
    assert status["reason"] in ("CoordinatorOutOfMemory", "BadScript"), status
    assert "memory" in status["message"]


def test_the_deadline(queries, slow):
    queries.create("slow", queries.spec(slow, activeDeadlineSeconds=10))
    status = queries.failed("slow", "Deadline", limit_seconds=90)
    assert "activeDeadlineSeconds" in status["message"]
    assert not store.keys(f"{queries.prefix}/slow/")


def test_a_pod_template_that_pod_security_refuses(queries):
    template = {"spec": {"hostNetwork": True}}
    queries.create("root", queries.spec(compute={"podTemplate": template}))
    status = queries.told("root", "PodSecurity")
    assert "hostNetwork" in str(status) or "host namespaces" in str(status)


def test_a_name_that_another_object_has(queries):
    meta = {"name": "taken-floe", "namespace": queries.namespace}
    kube.apply({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": {"podSelector": {}}})
    queries.create("taken", queries.spec())
    status = queries.told("taken", "NameTaken")
    assert "taken-floe" in str(status)
    kube.kubectl("delete", "networkpolicy", "taken-floe", "-n", queries.namespace)
    queries.succeeded("taken")


def test_failed_pods_stay_for_a_look_when_asked(queries):
    script = "result = scan('lineitem').select(pl.col('l_comment').cast(pl.Int64))"
    queries.create("kept", queries.spec(script, keepFailedPodsSeconds=30))
    queries.failed("kept", "QueryFailed", limit_seconds=90)
    (coordinator,) = queries.pods("kept", "coordinator")
    assert kube.kubectl("logs", "-n", queries.namespace, coordinator["metadata"]["name"])
    # The workers did nothing wrong, and do not look as if they had.
    phases = lambda: [pod["status"]["phase"] for pod in queries.pods("kept", "worker")]  # noqa: E731
    kube.wait("ended workers", 20, lambda: "Running" not in phases(), lambda: kube.story(queries.namespace))
    assert phases() == ["Succeeded", "Succeeded"], kube.story(queries.namespace)
    queries.no_pods("kept", limit_seconds=60)
    assert queries.get("kept"), "the query itself stays"


def test_workers_do_not_stay_to_wait_for_a_query_that_failed_before_it_had_them(queries):
    """A plan that cannot be: planning needs no worker, and most have not started when it fails."""
    spec = queries.spec("result = scan('lineitem').select('no_such_column')", keepFailedPodsSeconds=60)
    queries.create("kept", spec)
    queries.failed("kept", "BadPlan", limit_seconds=90)
    idle = lambda: all(pod["status"]["phase"] == "Succeeded" for pod in queries.pods("kept", "worker"))  # noqa: E731
    kube.wait("no worker that waits", 25, idle, lambda: kube.story(queries.namespace))
    (coordinator,) = queries.pods("kept", "coordinator")
    assert kube.kubectl("logs", "-n", queries.namespace, coordinator["metadata"]["name"])


def test_groups_is_what_the_others_break(queries):
    """The query that the tests above change succeeds when nothing is wrong with it."""
    queries.create("sound", queries.spec(GROUPS))
    queries.succeeded("sound")
