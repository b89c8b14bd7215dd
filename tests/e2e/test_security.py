"""What runs where with which rights: Pod Security, the operator's and the runners' accounts, tokens, NetworkPolicies, and
that no credential shows."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.e2e import kube, store
from tests.e2e.queries import GROUPS

OPERATOR = "system:serviceaccount:floe-system:floe"


def can(verb: str, what: str, *more: str, account: str = OPERATOR) -> bool:
    # What comes after a slash would be a name: subresources are asked for by a flag of their own.
    what, _, part = what.partition("/")
    if part and what != "leases.coordination.k8s.io":
        more = (*more, f"--subresource={part}")
    elif part:
        what = f"{what}/{part}"
    done = kube.run("auth", "can-i", verb, what, f"--as={account}", *more)
    assert done.stdout.strip() in ("yes", "no"), done.stderr
    return done.stdout.strip() == "yes"


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("list", "distributedqueries.floe.dev"), ("patch", "distributedqueries.floe.dev/status"), ("create", "pods"),
        ("delete", "pods"), ("create", "secrets"), ("get", "secrets"),
        ("create", "networkpolicies.networking.k8s.io"), ("create", "events.events.k8s.io"),
        # For the HTTP API, which the tests turn on.
        ("create", "distributedqueries.floe.dev"),
    ],
)  # fmt: skip
def test_the_operator_may(verb, what):
    assert can(verb, what, "-n", "default")


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("create", "pods/exec"), ("create", "pods/attach"), ("create", "pods/portforward"), ("get", "nodes"),
        ("list", "nodes"), ("create", "deployments.apps"), ("delete", "namespaces"), ("create", "clusterroles"),
        ("create", "rolebindings"), ("impersonate", "users"), ("create", "serviceaccounts/token"),
        ("update", "customresourcedefinitions"), ("list", "secrets"), ("watch", "secrets"), ("patch", "customresourcedefinitions"), ("create", "configmaps"), ("create", "services"),
        ("*", "*"),
    ],
)  # fmt: skip
def test_the_operator_may_not(verb, what):
    assert not can(verb, what, "-n", "default")


def test_leases_only_of_its_own():
    assert can("update", "leases.coordination.k8s.io/floe", "-n", "floe-system")
    assert not can("update", "leases.coordination.k8s.io/other", "-n", "floe-system")
    assert not can("update", "leases.coordination.k8s.io/floe", "-n", "default")


def test_people_get_queries_by_the_clusters_own_roles(queries):
    kube.kubectl("create", "rolebinding", "viewer", "--clusterrole=view", "--user=ann", "-n", queries.namespace)
    kube.kubectl("create", "rolebinding", "editor", "--clusterrole=edit", "--user=ben", "-n", queries.namespace)
    at = ("-n", queries.namespace)
    kube.wait("the aggregated roles", 30, lambda: can("list", "distributedqueries.floe.dev", *at, account="ann"))
    assert not can("create", "distributedqueries.floe.dev", *at, account="ann")
    assert can("create", "distributedqueries.floe.dev", *at, account="ben")
    assert can("delete", "distributedqueries.floe.dev", *at, account="ben")
    assert not can("patch", "distributedqueries.floe.dev/status", *at, account="ben")


def test_runner_pods(queries, slow):
    queries.create("look", queries.spec(slow))
    queries.phase("look", "Running", limit_seconds=90)
    coordinator, worker = (queries.pod("look", role) for role in ("coordinator", "worker"))
    for pod in (coordinator, worker):
        spec, name = pod["spec"], pod["metadata"]["name"]
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
        assert spec["restartPolicy"] == "Never"
        security = spec["securityContext"]
        assert security["runAsNonRoot"] and security["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        assert container["name"] == "floe"
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"] and own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        assert "cpu" not in container["resources"]["limits"]
        # From inside: no token, no way to write to the image, nobody special; the API server answers as to a stranger.
        tried = """
import os, ssl, urllib.error, urllib.request
print("token", os.path.exists("/var/run/secrets/kubernetes.io"))
print("uid", os.getuid(), os.getgid())
try:
    open("/usr/x", "w")
except OSError as error:
    print("write", error.errno)
address = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}/api/v1/namespaces/default/secrets"
try:
    urllib.request.urlopen(address, timeout=10, context=ssl._create_unverified_context())
except urllib.error.HTTPError as error:
    print("api", error.code)
"""
        said = kube.kubectl("exec", "-n", queries.namespace, name, "--", "python3", "-c", tried)
        assert said.splitlines() == ["token False", "uid 65532 65532", "write 30", "api 403"] or said.splitlines() == [
            "token False", "uid 65532 65532", "write 30", "api 401"
        ], said  # fmt: skip
    # The image tells what it is made of.
    at = "/usr/share/floe/sbom.json"
    bill = json.loads(kube.kubectl("exec", "-n", queries.namespace, worker["metadata"]["name"], "--", "cat", at))
    parts = {component["purl"].split("@")[0] for component in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX" and {"pkg:cargo/polars-core", "pkg:pypi/polars"} <= parts
    # Every port wants the token: what carries none is refused, and nobody else names a worker's coordinator.
    probe = """
import sys, urllib.error, urllib.request
asked = ((7071, "/api/v1/queries/x", None), (7072, "/metrics", None), (7072, "/shuffle/x", None), (7072, "/coordinator", b"10.0.0.1:7070"))
for port, path, body in asked:
    host = sys.argv[1] if port == 7071 else sys.argv[2]
    try:
        print(port, path, urllib.request.urlopen(f"http://{host}:{port}{path}", body, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(port, path, error.code)
"""
    addresses = (coordinator["status"]["podIP"], worker["status"]["podIP"])
    said = kube.kubectl(
        "exec", "-n", queries.namespace, worker["metadata"]["name"], "--", "python3", "-c", probe, *addresses
    )
    codes = {tuple(line.split()[:2]): line.split()[2] for line in said.splitlines()}
    assert set(codes.values()) <= {"401", "403", "404"}, said
    assert codes[("7071", "/api/v1/queries/x")] in ("401", "403"), said
    assert codes[("7072", "/coordinator")] == "401", said


def test_network_policy(queries, slow):
    queries.create("net", queries.spec(slow))
    queries.phase("net", "Running", limit_seconds=90)
    policy = kube.get("networkpolicies", queries.namespace, "net-floe")
    spec = policy["spec"]
    assert spec["podSelector"]["matchLabels"]["floe.dev/query"] == "net"
    assert spec["policyTypes"] == ["Ingress"]
    sources = [source for rule in spec["ingress"] for source in rule["from"]]
    own = [source for source in sources if "namespaceSelector" not in source]
    operators = [source for source in sources if "namespaceSelector" in source]
    assert own and all(source["podSelector"]["matchLabels"]["floe.dev/query"] == "net" for source in own)
    (operator,) = operators
    assert operator["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "floe-system"}
    labels = ",".join(f"{key}={value}" for key, value in operator["podSelector"]["matchLabels"].items())
    found = kube.items("pods", "floe-system", labels)
    assert found and all(pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator" for pod in found)
    owner = policy["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("DistributedQuery", "net", True)


def test_no_credential_shows(queries):
    """Neither the store's keys nor the query's token, in status, events, logs or pod specs."""
    secret = "floe-secret"
    queries.create("shy", queries.spec(GROUPS, keepFailedPodsSeconds=30))
    logs, tokens = [], set()
    while queries.status("shy").get("phase") not in ("Succeeded", "Failed"):
        for one in kube.items("secrets", queries.namespace, "floe.dev/query=shy"):
            tokens |= {value for key, value in one.get("data", {}).items() if key == "token"}
        for pod in queries.pods("shy"):
            done = kube.run("logs", "-n", queries.namespace, pod["metadata"]["name"])
            logs.append(done.stdout)
            logs.append(json.dumps(pod))
    queries.succeeded("shy")
    told = [json.dumps(queries.get("shy")["status"]), json.dumps(kube.items("events", queries.namespace)), *logs]
    for operator in kube.items("pods", "floe-system", "app.kubernetes.io/component=operator"):
        told.append(kube.kubectl("logs", "-n", "floe-system", operator["metadata"]["name"], "--tail=-1"))
    import base64

    tokens = {base64.b64decode(token).decode() for token in tokens}
    assert tokens and all(len(token) >= 32 for token in tokens)
    for text in told:
        assert secret not in text
        assert not any(token in text for token in tokens)


def test_the_operators_metrics():
    (pod, *_) = kube.items("pods", "floe-system", "app.kubernetes.io/component=operator")
    text = subprocess.run(
        ["kubectl", "get", "--raw", f"/api/v1/namespaces/floe-system/pods/{pod['metadata']['name']}:8080/proxy/metrics"],
        check=True, stdout=subprocess.PIPE, text=True, timeout=30, env=os.environ,
    ).stdout  # fmt: skip
    assert "floe_" in text and text.endswith("# EOF\n")
    assert store.SECRET not in text
