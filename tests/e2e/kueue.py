"""Kueue on the cluster of the end-to-end tests: its own chart, with the image that tests/cluster/kueue builds. Flavors,
queues and priorities as a platform team makes them."""

from __future__ import annotations

import os
import subprocess
import tempfile

import yaml

from tests.e2e import kube

NAMESPACE = "kueue-system"
API = "kueue.x-k8s.io/v1beta2"
CONFIGURATION = """
apiVersion: config.kueue.x-k8s.io/v1beta2
kind: Configuration
health: {healthProbeBindAddress: ":8081"}
metrics: {bindAddress: ":8443"}
webhook: {port: 9443}
leaderElection: {leaderElect: false}
internalCertManagement: {enable: true}
integrations:
  frameworks: ["batch/job"]
  externalFrameworks: ["DistributedQuery.v1alpha1.floe.dev"]
"""
# The chart's own image cannot be pulled everywhere, and its server of pending workloads needs an aggregating API server.
VALUES = {
    "controllerManager": {
        "featureGates": [{"name": "VisibilityOnDemand", "enabled": False}],
        "manager": {
            "image": {"repository": "localhost/floe-kueue", "tag": "test", "pullPolicy": "Never"},
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        },
        "readinessProbe": {"initialDelaySeconds": 1},
    },
    "managerConfig": {"controllerManagerConfigYaml": CONFIGURATION},
}


def manifests() -> list[dict]:
    """What the chart makes, for a program of another name, without what these tests do not need."""
    done = subprocess.run([kube.REPO / "tests" / "cluster" / "kueue"], capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr
    chart = done.stdout.strip().splitlines()[-1]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as values:
        yaml.safe_dump(VALUES, values)
        values.flush()
        command = [os.environ.get("FLOE_HELM", "helm"), "template", "kueue", chart, "-n", NAMESPACE, "-f", values.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    made = [one for one in yaml.safe_load_all(text) if one and one["kind"] not in ("APIService", "FlowSchema")]
    for one in made:
        if one["kind"] == "Deployment":
            for container in one["spec"]["template"]["spec"]["containers"]:
                container["command"] = ["/program"]
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, *made]


def install() -> None:
    text = yaml.safe_dump_all(manifests())
    kube.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=text, timeout=120)
    kube.kubectl("rollout", "status", "-n", NAMESPACE, "deployment/kueue-controller-manager", "--timeout=150s", timeout=160)
    # Its webhooks answer once their certificate is there.
    flavor = {"apiVersion": API, "kind": "ResourceFlavor", "metadata": {"name": "plain"}, "spec": {}}
    ask = lambda: kube.run("apply", "-f", "-", input=yaml.safe_dump(flavor)).returncode == 0  # noqa: E731
    kube.wait("Kueue answers", 90, ask, lambda: kube.kubectl("logs", "-n", NAMESPACE, "deployment/kueue-controller-manager", "--tail=40"))


def uninstall() -> None:
    # Its own objects first: their finalizers are removed by its controller.
    for kind in ("workloads", "localqueues"):
        kube.run("delete", f"{kind}.kueue.x-k8s.io", "--all", "--all-namespaces", "--timeout=30s")
    for kind in ("clusterqueues", "resourceflavors", "workloadpriorityclasses"):
        kube.run("delete", f"{kind}.kueue.x-k8s.io", "--all", "--timeout=30s")
    # Backwards: its webhooks would refuse everything once it is gone.
    text = yaml.safe_dump_all(reversed(manifests()))
    kube.run("delete", "--ignore-not-found", "--wait=false", "-f", "-", input=text, timeout=120)


def queues(namespace: str, memory: str, flavor: str = "plain", flavors: dict[str, dict] | None = None) -> None:
    """A ClusterQueue with this much memory that preempts by priority, and a LocalQueue `team` in the namespace."""
    quota = [{"name": "cpu", "nominalQuota": "100"}, {"name": "memory", "nominalQuota": memory}]
    covered = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": flavor, "resources": quota}]}
    spec = {
        "namespaceSelector": {},
        "resourceGroups": [covered],
        "preemption": {"withinClusterQueue": "LowerPriority"},
    }
    made = [
        *[{"apiVersion": API, "kind": "ResourceFlavor", "metadata": {"name": name}, "spec": one} for name, one in (flavors or {}).items()],
        {"apiVersion": API, "kind": "WorkloadPriorityClass", "metadata": {"name": "urgent"}, "value": 1000},
        {"apiVersion": API, "kind": "ClusterQueue", "metadata": {"name": namespace}, "spec": spec},
        {"apiVersion": API, "kind": "LocalQueue", "metadata": {"name": "team", "namespace": namespace}, "spec": {"clusterQueue": namespace}},
    ]
    kube.apply(*made)


def workload(namespace: str, query: str) -> dict | None:
    return kube.request("GET", f"/apis/{API}/namespaces/{namespace}/workloads/{query}-floe")


def condition(namespace: str, query: str, kind: str) -> str | None:
    status = (workload(namespace, query) or {}).get("status", {})
    return next((one["status"] for one in status.get("conditions", []) if one["type"] == kind), None)
