"""The Helm chart without a cluster: lint, schema of values, every rendered manifest against Kubernetes' own schemas, and
what must be equal to something else (the CRD, the table of values in the README)."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import re
import subprocess

import pytest
import yaml

REPO = pathlib.Path(__file__).parents[2]
CHART = REPO / "charts" / "floe"
TOOLS = REPO / "tests" / "cluster" / "tools"

# What users set; each is linted, rendered and checked against the schemas.
VALUES = {
    "defaults": {},
    "ha": {"replicas": 2, "priorityClassName": "system-cluster-critical"},
    "namespaces": {"watchNamespaces": ["team-a", "team-b"], "rbac": {"aggregate": False}},
    "everything": {
        "replicas": 3,
        "imagePullSecrets": [{"name": "pull"}],
        "image": {"repository": "floe-operator", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
        "runner": {
            "image": {"repository": "floe-runner", "tag": "1.2.3"},
            "env": {"RUST_LOG": "debug", "A": "b=c,d"},
            "from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}],
        },
        "operator": {"logFormat": "text", "extraEnv": [{"name": "X", "value": "one"}], "extraArgs": ["--concurrency=3"]},
        "tracing": {"endpoint": "http://collector:4317"},
        "serviceAccount": {"annotations": {"a": "b"}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "data"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "podDisruptionBudget": {"enabled": True, "minAvailable": "50%"},
        "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]},
        "metrics": {"podMonitor": {"enabled": True, "labels": {"r": "p"}}},
        "nameOverride": "fl",
        "httpApi": {
            "enabled": True, "tls": {"secretName": "api-tls"}, "audiences": ["floe"], "requestsPerSecond": 5, "maxStreams": 8,
            "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
        },
        "policy": {
            "enabled": True, "images": ["registry.example.com/team/*", "floe-runner:1"], "plans": ["dsl"], "podTemplate": "none",
            "volumes": ["secret"], "serviceAccounts": [], "environment": False, "maxWorkers": 8, "maxMemory": "64Gi",
            "maxActiveDeadlineSeconds": 3600, "maxTtlSeconds": 0,
        },
    },
    "http api": {"httpApi": {"enabled": True}, "watchNamespaces": ["team-a"], "networkPolicy": {"enabled": True}},
    "limits": {"limits": {"maxQueries": 50, "maxPodsPerNamespace": 20, "weights": {"team-a": 3}}},
    "kueue": {"kueue": {"enabled": True}, "watchNamespaces": ["team-a"]},
    "volcano": {"gang": {"scheduler": "volcano"}},
    "yunikorn": {"gang": {"scheduler": "yunikorn"}, "watchNamespaces": ["team-a"]},
    "service monitor": {
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"r": "p"}},
            "rules": {"enabled": True, "labels": {"r": "p"}},
            "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Data"}},
        }
    },
    "policy": {"policy": {"enabled": True}, "watchNamespaces": ["team-a"]},
    "nothing": {
        "serviceAccount": {"create": False, "name": "own"},
        "rbac": {"create": False, "aggregate": False},
        "crds": {"upgrade": False},
        "podDisruptionBudget": {"enabled": False},
    },
}


@functools.cache
def tool(name: str) -> str:
    done = subprocess.run([TOOLS / "build", name], check=True, stdout=subprocess.PIPE, text=True, timeout=1500)
    return str(pathlib.Path(done.stdout.strip()) / name)


def helm(*arguments: object, check: bool = True) -> subprocess.CompletedProcess:
    done = subprocess.run([tool("helm"), *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert not check or done.returncode == 0, done.stderr + done.stdout
    return done


def render(tmp_path: pathlib.Path, values: dict, *arguments: str) -> list[dict]:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    text = helm("template", "floe", CHART, "--namespace", "floe-system", "--values", file, *arguments).stdout
    return [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture(scope="session")
def schemas(tmp_path_factory) -> pathlib.Path:
    """JSON schemas of every kind, strict (unknown fields are errors), made of Kubernetes' own description of its API,
    which comes with the module that the test cluster is built from."""
    module = TOOLS / "kubernetes"
    place = subprocess.run(
        ["go", "mod", "download", "-json", "k8s.io/kubernetes"],
        check=True, cwd=module, stdout=subprocess.PIPE, text=True, timeout=600,
    )  # fmt: skip
    swagger = json.loads((pathlib.Path(json.loads(place.stdout)["Dir"]) / "api/openapi-spec/swagger.json").read_text())
    definitions = swagger["definitions"]

    def strict(schema):
        if isinstance(schema, list):
            return [strict(one) for one in schema]
        if not isinstance(schema, dict):
            return schema
        if schema.get("format") == "int-or-string":
            return {"oneOf": [{"type": "string"}, {"type": "integer"}]}
        made = {key: strict(value) for key, value in schema.items()}
        if isinstance(made.get("properties"), dict) and "additionalProperties" not in made and made.get("type") != "array":
            made["additionalProperties"] = False
        return made

    made = strict(definitions)
    made["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
    directory = tmp_path_factory.mktemp("schemas")
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            group = kind["group"].split(".")[0]
            file = f"{kind['kind']}-{group}-{kind['version']}".lower() if group else f"{kind['kind']}-{kind['version']}".lower()
            (directory / f"{file}.json").write_text(json.dumps({"$ref": f"all.json#/definitions/{name}"}))
    (directory / "all.json").write_text(json.dumps({"definitions": made}))
    return directory


@pytest.mark.parametrize("name", VALUES)
def test_lint(name, tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(VALUES[name]))
    helm("lint", "--strict", CHART, "--values", file)


@pytest.mark.parametrize("name", VALUES)
def test_manifests_fit_the_schemas(name, tmp_path, schemas):
    documents = render(tmp_path, VALUES[name], "--include-crds")
    # Kinds of the Prometheus operator have no schema here; what they select is checked by the chart's unit tests.
    known = [document for document in documents if document["apiVersion"] != "monitoring.coreos.com/v1"]
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(yaml.safe_dump_all(known))
    location = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    done = subprocess.run(
        [tool("kubeconform"), "-strict", "-summary", "-schema-location", location, manifests],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = f"{len(known)} resources found in 1 file - Valid: {len(known)}, Invalid: 0, Errors: 0, Skipped: 0"
    assert summary in done.stdout, done.stdout


def test_a_wrong_manifest_is_found(tmp_path, schemas):
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"port": []}}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    location = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    done = subprocess.run(
        [tool("kubeconform"), "-strict", "-schema-location", location, tmp_path / "wrong.yaml"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and "'port' not allowed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replica": 2}, "replica"),
        ({"image": {"repo": "x"}}, "repo"),
        ({"operator": {"logFormat": "xml"}}, "logFormat"),
        ({"watchNamespaces": ["Team A"]}, "watchNamespaces"),
        ({"replicas": "two"}, "replicas"),
        ({"runner": {"env": {"A": 1}}}, "env"),
        ({"image": {"repository": "x", "digest": "latest"}}, "digest"),
        ({"nameOverride": "Floe_1"}, "nameOverride"),
        ({"priorityClassName": "High Priority"}, "priorityClassName"),
        ({"resources": {"limits": {"memory": "256 MB"}}}, "memory"),
        ({"metrics": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}}, "metrics"),
        ({"policy": {"images": ["it's"]}}, "images"),
        ({"policy": {"podTemplate": "some"}}, "podTemplate"),
        ({"httpApi": {"audiences": ["a,b"]}}, "audiences"),
        ({"httpApi": {"maxStreams": 0}}, "maxStreams"),
        ({"limits": {"maxPods": 1}}, "maxPods"),
        ({"gang": {"scheduler": "slurm"}}, "scheduler"),
        ({"limits": {"weights": {"a": 0}}}, "weights"),
    ],
)
def test_wrong_values_are_refused(values, message, tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = helm("template", "floe", CHART, "--values", file, check=False)
    assert done.returncode != 0 and message in done.stderr, done.stderr


def test_unit_tests_of_the_chart():
    done = subprocess.run([tool("helm-unittest"), str(CHART)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_crd_is_the_generated_one():
    ours = {path.name: path.read_text() for path in (CHART / "crds").iterdir()}
    generated = {path.name: path.read_text() for path in (REPO / "crds").iterdir()}
    assert ours == generated, "cp crds/*.yaml charts/floe/crds/"


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_fits_pod_security_restricted(name, tmp_path):
    found = 0
    for document in render(tmp_path, VALUES[name]):
        spec = document["spec"] if document["kind"] == "Pod" else document.get("spec", {}).get("template", {}).get("spec")
        if spec is None or "containers" not in spec:
            continue
        found += 1
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] and pod["runAsUser"] == 65532 and pod["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]} and context["readOnlyRootFilesystem"]
            assert context["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
    assert found == (3 if VALUES[name].get("crds", {}).get("upgrade", True) else 2)


def test_roles_stay_in_their_namespaces(tmp_path):
    documents = render(tmp_path, VALUES["namespaces"])
    lasting = [d for d in documents if "helm.sh/hook" not in d["metadata"].get("annotations", {})]
    assert not [d for d in lasting if d["kind"].startswith("Cluster")]
    assert {d["metadata"]["namespace"] for d in lasting if d["kind"] == "Role"} == {"team-a", "team-b", "floe-system"}


def test_rights_are_those_of_the_documentation(tmp_path):
    page = (REPO / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| (core|`[a-z0-9.]+`) \| `([a-z/]+)` \| ([a-z, ]+) \|$", page, re.MULTILINE)
    told = {("" if group == "core" else group.strip("`"), what, verb) for group, what, verbs in rows for verb in verbs.split(", ")}
    given = rights(render(tmp_path, {}))
    assert given == told
    # Those for callers of the HTTP API come with it.
    more = rights(render(tmp_path, {"httpApi": {"enabled": True}})) - given
    assert more == {("floe.dev", "computecontexts", "create"), ("floe.dev", "computecontexts", "delete"), ("", "pods/log", "get")}
    http_api = (REPO / "docs" / "http-api.md").read_text()
    assert all(f"`{what}`" in http_api for _, what, _ in more)
    # And those for Kueue's Workloads.
    more = rights(render(tmp_path, {"kueue": {"enabled": True}})) - given
    verbs = {what: [verb for _, of, verb in more if of == what] for _, what, _ in more}
    assert {what: sorted(all) for what, all in verbs.items()} == {
        "workloads": ["create", "delete", "get", "list", "watch"], "workloads/status": ["patch"],
    }  # fmt: skip
    assert all(f"`{what}`" in page for what in verbs)
    # And those for Volcano's PodGroups; YuniKorn reads annotations only.
    more = rights(render(tmp_path, {"gang": {"scheduler": "volcano"}})) - given
    assert more == {("scheduling.volcano.sh", "podgroups", verb) for verb in ("get", "create")}
    assert "`podgroups` get, create" in page
    assert rights(render(tmp_path, {"gang": {"scheduler": "yunikorn"}})) == given


def rights(documents: list[dict]) -> set[tuple[str, str, str]]:
    """What the operator may do in the namespaces of queries."""
    (role,) = [d for d in documents if d["kind"] == "ClusterRole" and d["metadata"]["name"] == "floe"]
    return {
        (group, what, verb)
        for rule in role["rules"] for group in rule["apiGroups"] for what in rule["resources"] for verb in rule["verbs"]
    }  # fmt: skip


def test_no_right_goes_to_everything(tmp_path):
    for name, values in VALUES.items():
        for document in render(tmp_path, values):
            for rule in document.get("rules") or []:
                assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], (name, document["metadata"])


def values_table() -> list[str]:
    """Rows of the README's table: every value with its comment and default."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    rows, comment, path = [], [], []
    for line in (CHART / "values.yaml").read_text().splitlines()[2:]:
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
            continue
        key = re.match(r"^( *)([A-Za-z]+):", line)
        if key and comment:
            path = path[: len(key[1]) // 2] + [key[2]]
            value = functools.reduce(lambda at, name: at[name], path, defaults)
            rows.append(f"| `{'.'.join(path)}` | `{json.dumps(value)}` | {' '.join(comment)} |")
        elif key:
            path = path[: len(key[1]) // 2] + [key[2]]
        comment = []
    return rows


def test_the_readme_has_every_value():
    text = (CHART / "README.md").read_text()
    table = "\n".join(["| value | default | what it is |", "|---|---|---|", *values_table()])
    if os.environ.get("FLOE_UPDATE"):
        text = re.sub(r"\| value \| default .*?(?=\n\n|\Z)", lambda _: table, text, flags=re.DOTALL)
        (CHART / "README.md").write_text(text)
    assert table in text, "FLOE_UPDATE=1 writes the table anew"
