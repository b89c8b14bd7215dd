"""The operator itself: killed in every phase of a query, two of them with one killed, upgraded, taken away and put back.
No query notices. These change the operator, so they run after the others and one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

from tests.e2e import kube
from tests.e2e.queries import GATED, GROUPS
from tests.e2e.test_lifecycle import until

pytestmark = pytest.mark.alone
CHART = kube.REPO / "charts" / "floe"
SELECTOR = "app.kubernetes.io/component=operator"


def helm(*arguments: str, timeout: float = 180) -> str:
    done = subprocess.run(
        [os.environ.get("FLOE_HELM", "helm"), *map(str, arguments)], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def operators() -> list[dict]:
    pods = kube.items("pods", "floe-system", SELECTOR)
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def kill_operators() -> None:
    kube.kubectl("delete", "pods", "-n", "floe-system", "-l", SELECTOR, "--grace-period=0", "--force")


def ready(count: int) -> None:
    def ask():
        found = [p for p in operators() for c in p["status"].get("conditions", []) if (c["type"], c["status"]) == ("Ready", "True")]
        return len(found) == count

    kube.wait(f"{count} operators ready", 60, ask, lambda: kube.story("floe-system"))


@pytest.mark.parametrize("phase", ["Pending", "Starting", "Planning", "Running", "Committing", "Succeeded"])
def test_killed(queries, groups_result, phase):
    queries.create("on", queries.spec(GATED))
    if phase in ("Committing", "Succeeded"):
        queries.open()
    until(queries, "on", phase)
    kill_operators()
    queries.open()
    status = queries.succeeded("on")
    assert status["attempt"] == 1, "the query did not notice"
    queries.holds("on", groups_result)
    queries.no_pods("on")


def test_killed_while_it_takes_a_query_away(queries, slow):
    queries.create("off", queries.spec(slow))
    queries.phase("off", "Running", limit_seconds=90)
    queries.delete("off", wait=False)
    kill_operators()
    kube.wait("the query is gone", 120, lambda: queries.get("off") is None and not queries.left("off"),
              lambda: kube.story(queries.namespace))  # fmt: skip


def test_what_happens_without_an_operator_is_seen_when_it_is_back(queries):
    """Pods run and end, and queries are made and deleted, while no operator is there."""
    queries.create("before", queries.spec(GROUPS))
    queries.wait("before", "pods", lambda status: status.get("phase") in ("Starting", "Planning", "Running", "Succeeded"), 60)
    kube.kubectl("scale", "deployment/floe", "-n", "floe-system", "--replicas=0")
    try:
        kube.wait("no operator", 60, lambda: not kube.items("pods", "floe-system", SELECTOR))
        queries.create("meanwhile", queries.spec(GROUPS))
        queries.create("deleted", queries.spec(GROUPS, suspend=True))
        queries.delete("deleted", wait=False)
        time.sleep(5)
    finally:
        kube.kubectl("scale", "deployment/floe", "-n", "floe-system", "--replicas=1")
    ready(1)
    for name in ("before", "meanwhile"):
        assert queries.succeeded(name)["attempt"] == 1
    kube.wait("the deleted one is gone", 60, lambda: queries.get("deleted") is None)


def test_two_replicas_and_one_killed(queries, groups_result):
    kube.kubectl("scale", "deployment/floe", "-n", "floe-system", "--replicas=2")
    try:
        ready(2)
        names = [f"two-{index}" for index in range(2)]
        for name in names:
            queries.create(name, queries.spec(GATED))
        queries.at_gate(names[0])
        leader = kube.get("leases", "floe-system", "floe")["spec"]["holderIdentity"]
        victim = next(p["metadata"]["name"] for p in operators() if p["metadata"]["name"] in leader)
        kube.kubectl("delete", "pod", "-n", "floe-system", victim, "--grace-period=0", "--force")
        kube.wait("another leads", 60, lambda: victim not in kube.get("leases", "floe-system", "floe")["spec"]["holderIdentity"])
        queries.open()
        for name in names:
            status = queries.succeeded(name)
            assert status["attempt"] == 1
            queries.holds(name, groups_result)
    finally:
        kube.kubectl("scale", "deployment/floe", "-n", "floe-system", "--replicas=1")
        ready(1)


def test_upgraded_while_a_query_runs(queries, groups_result):
    queries.create("on", queries.spec(GATED))
    queries.at_gate("on")
    # A wrong definition stands for an older one: the upgrade mends it.
    crd = "customresourcedefinitions"
    kube.kubectl("patch", crd, kube.QUERIES, "--type=json",
                 "-p", '[{"op": "remove", "path": "/spec/names/shortNames"}]')  # fmt: skip
    helm("upgrade", "floe", CHART, "-n", "floe-system", "--reuse-values", "--set", "podAnnotations.touched=now", "--wait", "--timeout=120s")
    queries.open()
    assert "dq" in kube.kubectl("get", crd, kube.QUERIES, "-o", "jsonpath={.spec.names.shortNames}")
    assert queries.succeeded("on")["attempt"] == 1
    queries.holds("on", groups_result)
    ready(1)


def test_an_upgrade_of_the_runners_image_waits_for_the_next_attempt(queries, groups_result):
    """A worker that is replaced after an upgrade has the image of the others."""
    name = os.environ["FLOE_RUNNER_IMAGE"]
    queries.create("on", queries.spec(GATED))
    status = queries.phase("on", "Running", limit_seconds=90)
    assert status["pinned"]["image"] == name
    repository, _, tag = name.rpartition(":")
    helm("upgrade", "floe", CHART, "-n", "floe-system", "--reuse-values", "--set", "runner.image.tag=no-such-tag", "--wait", "--timeout=120s")
    try:
        ready(1)
        victim = queries.pod("on", "worker")["metadata"]
        kube.kubectl("delete", "pod", "-n", queries.namespace, victim["name"], "--grace-period=0", "--force")
        # An operator that has just started may have seen no loss: then the new pod has the name of the one that is missing.
        others = lambda: [pod for pod in queries.pods("on", "worker") if pod["metadata"]["uid"] != victim["uid"]]  # noqa: E731
        kube.wait("another worker", 60, lambda: len(others()) == 2, lambda: kube.story(queries.namespace))
        images = {c["image"] for pod in queries.pods("on") for c in pod["spec"]["containers"]}
        assert images == {name}, images
        queries.open()
        assert queries.succeeded("on")["attempt"] == 1
        queries.holds("on", groups_result)
    finally:
        helm("upgrade", "floe", CHART, "-n", "floe-system", "--reuse-values", "--set", f"runner.image.tag={tag}", "--wait", "--timeout=120s")
        ready(1)


def test_a_policy_is_held_by_the_api_server_and_by_the_operator(queries):
    rules = "policy.enabled=true,policy.podTemplate=restricted,policy.maxWorkers=2,policy.images={localhost/*},policy.maxMemory=4Gi,policy.volumes={configMap,persistentVolumeClaim}"
    queries.create("before", queries.spec(GROUPS, suspend=True, workers=3))
    helm("upgrade", "floe", CHART, "-n", "floe-system", "--reuse-values", "--set", rules, "--wait", "--timeout=120s")
    try:
        ready(1)
        cases = [
            ({"podTemplate": {"spec": {"hostNetwork": True}}}, "hostNetwork"),
            ({"podTemplate": {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}}, "volume"),
            ({"podTemplate": {"spec": {"containers": [{"name": "floe", "securityContext": {"privileged": True}}]}}}, "privileged"),
            ({"podTemplate": {"spec": {"containers": [{"name": "floe", "image": "elsewhere.example.com/x"}]}}}, "localhost/*"),
            # No template is a way around the rules of another, nor is a volume of the query's own.
            ({"workerPodTemplate": {"spec": {"hostNetwork": True}}}, "hostNetwork"),
            ({"coordinator": {"podTemplate": {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}}}, "volume"),
            ({"workerPodTemplate": {"spec": {"initContainers": [{"name": "i", "image": "elsewhere.example.com/x"}]}}}, "localhost/*"),
            ({"podTemplate": {"spec": {"securityContext": {"runAsUser": 0}}}}, "root"),
            ({"podTemplate": {"spec": {"containers": [{"name": "floe", "resources": {"limits": {"memory": "64Gi"}}}]}}}, "memory"),
            ({"workerPodTemplate": {"spec": {"containers": [{"name": "side", "image": "localhost/x"}]}}}, "memory"),
            ({"volumes": [{"name": "v", "mountPath": "/v", "secret": {"secretName": "s"}}]}, "compute.volumes"),
            ({"image": "elsewhere.example.com/x"}, "localhost/*"),
            ({"workers": 3}, "at most 2 workers"),
            ({"memory": "3Gi"}, "at most 4Gi"),
        ]

        def refused(compute: dict) -> str:
            spec = queries.spec(GROUPS, compute=compute)
            body = {"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "bad"}, "spec": spec}
            done = kube.run("create", "--dry-run=server", "-n", queries.namespace, "-f", "-", input=json.dumps(body))
            return done.stderr if done.returncode else ""

        # The API server takes a moment to hold a new policy.
        kube.wait("the policy holds", 30, lambda: refused({"workers": 3}))
        for compute, words in cases:
            assert words in refused(compute), (compute, refused(compute))
        context = {"apiVersion": "floe.dev/v1alpha1", "kind": "ComputeContext", "metadata": {"name": "bad"}}
        for spec, words in [({"maxWorkers": 3}, "at most 2 workers"), ({"compute": {"image": "elsewhere.example.com/x"}}, "localhost/*")]:
            body = json.dumps({**context, "spec": {"minWorkers": 1, **spec}})
            done = kube.run("create", "--dry-run=server", "-n", queries.namespace, "-f", "-", input=body)
            assert done.returncode and words in done.stderr, (spec, done)
        queries.create("sound", queries.spec(GROUPS, workers=2))
        queries.succeeded("sound")
        # What was there before can be let go, and does not run.
        path = kube.path("distributedqueries", queries.namespace, "before")
        with pytest.raises(AssertionError, match="at most 2 workers"):
            kube.request("PATCH", path, {"spec": {"suspend": False}}, "application/merge-patch+json")
        queries.delete("before")
        # Past the API server's policy, the operator holds the same.
        kube.kubectl("delete", "validatingadmissionpolicybinding", "floe-queries")
        kube.wait("the API server holds it no more", 30, lambda: not refused({"workers": 3}))
        queries.create("many", queries.spec(GROUPS, workers=3))
        assert "at most 2 are" in queries.failed("many", "NotAllowed")["message"]
    finally:
        helm("upgrade", "floe", CHART, "-n", "floe-system", "--reuse-values", "--set", "policy.enabled=false", "--wait", "--timeout=120s")
        ready(1)


def test_a_release_that_was_uninstalled_holds_no_lease(queries):
    """Its rights go with it, before its operator can give the lease back."""
    held = kube.get("leases", "floe-system", "floe")["spec"]["holderIdentity"]
    kube.kubectl("scale", "deployment/floe", "-n", "floe-system", "--replicas=0")
    kube.wait("no operator", 60, lambda: not kube.items("pods", "floe-system", SELECTOR))
    lease = {"spec": {"holderIdentity": held, "leaseDurationSeconds": 15, "renewTime": "2100-01-01T00:00:00.000000Z"}}
    kube.patch("leases", "floe-system", "floe", lease)
    kube.kubectl("scale", "deployment/floe", "-n", "floe-system", "--replicas=1")
    ready(1)
    begin = time.monotonic()
    kube.wait("another leads", 30, lambda: kube.get("leases", "floe-system", "floe")["spec"]["holderIdentity"] != held)
    took = time.monotonic() - begin
    assert took < 6, f"the lease of a pod that is gone was waited for {took:.1f} s"


def test_helm_test():
    assert "Phase:          Succeeded" in helm("test", "floe", "-n", "floe-system", "--timeout=150s")
    # The query is deleted by the test; its pods go with it, at the pace of the garbage collector.
    kube.wait("nothing is left of the test", 60, lambda: not [
        pod for pod in kube.items("pods", "floe-system") if "test" in pod["metadata"]["name"]
    ])  # fmt: skip


def test_only_named_namespaces(queries):
    """A second release that serves one namespace, with no rights beyond it."""
    kube.kubectl("create", "namespace", "floe-one", check=False)
    values = ["--set", f"watchNamespaces={{{queries.namespace}}}", "--set", "crds.upgrade=false", "--skip-crds", "--set", "rbac.aggregate=false"]
    for key in ("image.repository", "image.tag", "runner.image.repository", "runner.image.tag"):
        name = "OPERATOR" if key.startswith("image") else "RUNNER"
        repository, _, tag = os.environ[f"FLOE_{name}_IMAGE"].rpartition(":")
        values += ["--set", f"{key}={tag if key.endswith('tag') else repository}"]
    kube.kubectl("scale", "deployment/floe", "-n", "floe-system", "--replicas=0")
    try:
        kube.wait("no operator", 60, lambda: not kube.items("pods", "floe-system", SELECTOR))
        helm("install", "one", CHART, "-n", "floe-one", *values, "--wait", "--timeout=90s")
        account = "system:serviceaccount:floe-one:one-floe"
        for namespace, may in ((queries.namespace, "yes"), ("default", "no"), ("kube-system", "no")):
            done = kube.run("auth", "can-i", "get", "secrets", f"--as={account}", "-n", namespace)
            assert done.stdout.strip() == may, (namespace, done.stdout, done.stderr)
        queries.create("mine", queries.spec(GROUPS))
        queries.succeeded("mine")
        queries.delete("mine")
    finally:
        subprocess.run([os.environ.get("FLOE_HELM", "helm"), "uninstall", "one", "-n", "floe-one", "--wait"], timeout=90, check=False)
        kube.kubectl("delete", "namespace", "floe-one", "--wait=false")
        kube.kubectl("scale", "deployment/floe", "-n", "floe-system", "--replicas=1")
        ready(1)
