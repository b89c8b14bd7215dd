"""What a query says of its pods: volumes, templates of one role, and what is refused."""

from __future__ import annotations

import json

from tests.e2e import kube
from tests.e2e.queries import GATED_ONCE, SMALL

RATES = "n_name,rate\nFRANCE,2\nCHINA,3\n"


def test_tables_and_files_in_volumes_that_all_pods_mount(queries):
    kube.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rates"}, "data": {"rates.csv": RATES}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca"}, "stringData": {"ca.pem": "one"}},
        namespace=queries.namespace,
    )
    volumes = [
        {"name": "rates", "mountPath": "/rates", "configMap": {"name": "rates"}},
        {"name": "ca", "mountPath": "/ca/ca.pem", "subPath": "ca.pem", "secret": {"secretName": "ca"}},
        {"name": "own", "mountPath": "/own", "emptyDir": {"sizeLimit": "16Mi"}},
    ]
    spec = queries.spec('result = scan("rates").group_by("n_name").agg(pl.col("rate").sum())', compute={"volumes": volumes})
    spec["tables"] = {"rates": {"format": "csv", "uri": "/rates/rates.csv"}}
    queries.create("mounted", spec)
    queries.succeeded("mounted")
    spec["tables"]["rates"]["uri"] = "/own/rates.csv"
    queries.create("apart", spec)
    assert "lies in the volume own, which each pod has for itself" in queries.failed("apart", "BadSpec")["message"]
    spec["tables"]["rates"]["uri"] = "/elsewhere/rates.csv"
    queries.create("nowhere", spec)
    assert "spec.tables.rates.uri" in queries.failed("nowhere", "BadSpec")["message"]


def test_templates_of_one_role(queries):
    compute = {
        "podTemplate": {"metadata": {"labels": {"tier": "batch"}}},
        "workerPodTemplate": {"metadata": {"labels": {"tier": "heavy"}}, "spec": {"terminationGracePeriodSeconds": 7}},
        "coordinator": {**SMALL["coordinator"], "podTemplate": {"metadata": {"annotations": {"lead": "yes"}}}},
    }
    queries.create("apart", queries.spec(GATED_ONCE, compute=compute))
    worker, coordinator = queries.pod("apart", "worker"), queries.pod("apart", "coordinator")
    assert (worker["metadata"]["labels"]["tier"], worker["spec"]["terminationGracePeriodSeconds"]) == ("heavy", 7)
    assert coordinator["metadata"]["labels"]["tier"] == "batch" and coordinator["metadata"]["annotations"]["lead"] == "yes"
    assert "lead" not in worker["metadata"]["annotations"] and coordinator["spec"]["terminationGracePeriodSeconds"] == 30
    queries.open()
    queries.succeeded("apart")


def test_the_api_server_refuses_volumes_that_cannot_be(queries):
    def refused(volume: dict) -> str:
        spec = queries.spec(compute={"volumes": [volume]})
        body = {"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "bad"}, "spec": spec}
        done = kube.run("create", "--dry-run=server", "-n", queries.namespace, "-f", "-", input=json.dumps(body))
        return done.stderr if done.returncode else ""

    sound = {"name": "v", "mountPath": "/v", "emptyDir": {}}
    assert refused(sound) == ""
    for change, words in [
        ({"emptyDir": None}, "one source"), ({"secret": {"secretName": "s"}}, "one source"), ({"mountPath": "v"}, "mountPath"),
        ({"mountPath": "/etc/floe"}, "mountPath"), ({"mountPath": "/a/../tmp"}, "mountPath"), ({"name": "floe-job"}, "floe-"),
        ({"subPath": "a/../../b"}, "subPath"), ({"hostPath": {"path": "/"}}, "hostPath"),
    ]:  # fmt: skip
        volume = {key: value for key, value in {**sound, **change}.items() if value is not None}
        assert words in refused(volume), (change, refused(volume))
