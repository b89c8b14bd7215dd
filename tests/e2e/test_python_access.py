"""How `floe.Kubernetes` gets at the API server: by a plugin that gives credentials, through a proxy, from inside of a pod. And
what it leaves in an object of the credentials that a plan has."""

from __future__ import annotations

import base64
import datetime
import io
import json
import os
import pathlib
import select
import socket
import stat
import subprocess
import sys
import threading
import urllib.parse
import zipfile

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.e2e import kube, store
from tests.e2e.command import kubeconfig

SOURCES = pathlib.Path(__file__).parents[2] / "python" / "src"
sys.path.insert(0, str(SOURCES))

import floe  # noqa: E402

SIZE = {"workers": 1, "cpus": "50m", "memory": "384Mi", "compute": {"coordinator": {"cpus": "50m", "memory": "384Mi"}}}
#: What docs/python.md asks for.
RULES = [
    {
        "apiGroups": ["floe.dev"],
        "resources": ["distributedqueries"],
        "verbs": ["create", "get", "list", "watch", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]},
]
GROUP = "rbac.authorization.k8s.io"


@pytest.fixture
def token(queries):
    """A token of an account that has the rights of the documentation, and no other."""
    subject = {"kind": "ServiceAccount", "name": "user", "namespace": queries.namespace}
    meta = {"metadata": {"name": "user"}}
    kube.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", **meta},
        {"apiVersion": f"{GROUP}/v1", "kind": "Role", **meta, "rules": RULES},
        {
            "apiVersion": f"{GROUP}/v1", "kind": "RoleBinding", **meta, "subjects": [subject],
            "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "user"},
        },
        namespace=queries.namespace,
    )  # fmt: skip
    return kube.kubectl("create", "token", "user", "-n", queries.namespace, "--duration=1h").strip()


def runs(context: floe.Kubernetes) -> None:
    """A query whose rows come back through the API server."""
    lf = pl.LazyFrame({"a": [1, 2, 3]}).select(pl.col("a").sum())
    assert lf.remote(context).collect().item() == 6


class Plugin:
    """A program that gives credentials to clients, and the kubeconfig that names it."""

    def __init__(self, folder: pathlib.Path):
        self.answer, self.calls = folder / "answer.json", folder / "calls"
        program = folder / "plugin"
        program.write_text(f'#!/bin/sh\necho "$1 $REALM" >>{self.calls}\nexec cat {self.answer}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.kubeconfig = kubeconfig(folder)
        config = json.loads(self.kubeconfig.read_text())
        config["users"][0]["user"] = {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1", "command": str(program), "args": ["give"],
                "env": [{"name": "REALM", "value": "tests"}], "interactiveMode": "Never",
            }
        }  # fmt: skip
        self.kubeconfig.write_text(json.dumps(config))

    def give(self, expires: datetime.timedelta | None = None, **credentials: str) -> None:
        if expires is not None:
            at = datetime.datetime.now(datetime.timezone.utc) + expires
            credentials["expirationTimestamp"] = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        kind = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
        self.answer.write_text(json.dumps({**kind, "status": credentials}))

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()


def test_a_plugin_gives_tokens_and_is_asked_again_when_they_expire(queries, token, tmp_path):
    plugin = Plugin(tmp_path)
    plugin.give(token=token, expires=datetime.timedelta(hours=1))
    with floe.Kubernetes(queries.namespace, kubeconfig=plugin.kubeconfig, **SIZE) as context:
        runs(context)
        assert plugin.called() == ["give tests"], "a token that is good is not asked for again"
    # A token that has expired while the process lives, as those of clouds do after some minutes.
    plugin.give(token="expired", expires=-datetime.timedelta(minutes=1))
    with floe.Kubernetes(queries.namespace, kubeconfig=plugin.kubeconfig, **SIZE) as context:
        plugin.give(token=token, expires=datetime.timedelta(hours=1))
        runs(context)
    assert len(plugin.called()) == 3
    # One without an end stays, and the API server says what it thinks of it.
    plugin.give(token="no token")
    with floe.Kubernetes(queries.namespace, kubeconfig=plugin.kubeconfig, **SIZE) as context:
        with pytest.raises(floe.exceptions.ContextError, match="credentials of the kubeconfig are refused or have expired"):
            runs(context)


def test_a_plugin_gives_certificates(queries, tmp_path):
    user = json.loads(kubeconfig(tmp_path).read_text())["users"][0]["user"]
    if "client-certificate-data" not in user:
        pytest.skip("the user of these tests has no certificate")
    plugin = Plugin(tmp_path)
    pem = {name: base64.b64decode(user[f"client-{field}-data"]).decode() for name, field in
           (("clientCertificateData", "certificate"), ("clientKeyData", "key"))}  # fmt: skip
    plugin.give(**pem)
    with floe.Kubernetes(queries.namespace, kubeconfig=plugin.kubeconfig, **SIZE) as context:
        runs(context)


class Proxy:
    """An HTTP proxy that opens tunnels to one place only, whatever name is asked for. Only who comes this way gets there."""

    def __init__(self, target: tuple[str, int]):
        self.target, self.asked, self.refuses = target, [], False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.tunnel, args=(client,), daemon=True).start()

    def tunnel(self, client: socket.socket) -> None:
        with client:
            asked = b""
            while b"\r\n\r\n" not in asked:
                part = client.recv(4096)
                if not part:
                    return
                asked += part
            self.asked.append(asked.split(b"\r\n")[0].decode())
            if self.refuses or not asked.startswith(b"CONNECT "):
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(self.target, timeout=20) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                while True:
                    ready, _, _ = select.select([client, server], [], [], 120)
                    for one in ready:
                        data = one.recv(1 << 16)
                        if not data:
                            return
                        (server if one is client else client).sendall(data)
                    if not ready:
                        return

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
def proxied(token, tmp_path):
    """A proxy before the API server, and a kubeconfig with a name of it that only the proxy knows."""
    file = kubeconfig(tmp_path, token=token)
    config = json.loads(file.read_text())
    address = urllib.parse.urlsplit(config["clusters"][0]["cluster"]["server"])
    # Its certificate is for names that it has in its own cluster.
    config["clusters"][0]["cluster"] |= {"server": "https://api.floe.invalid:6443", "tls-server-name": "kubernetes"}
    file.write_text(json.dumps(config))
    proxy = Proxy((address.hostname, address.port or 443))
    yield proxy, file
    proxy.close()


@pytest.mark.parametrize("told", ["kubeconfig", "environment"])
def test_a_proxy_before_the_api_server(proxied, queries, monkeypatch, told):
    proxy, file = proxied
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with floe.Kubernetes(queries.namespace, kubeconfig=file, **SIZE) as context:
        with pytest.raises(floe.exceptions.ContextError, match="cannot create query"):
            runs(context)
    assert not proxy.asked
    if told == "environment":
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    else:
        config = json.loads(file.read_text())
        config["clusters"][0]["cluster"]["proxy-url"] = proxy.url
        file.write_text(json.dumps(config))
    with floe.Kubernetes(queries.namespace, kubeconfig=file, **SIZE) as context:
        runs(context)
        # Calls of the API over one connection that is kept, rows over another.
        asked = {line.rsplit(" ", 1)[0] for line in proxy.asked}
        assert len(proxy.asked) >= 2 and asked == {"CONNECT api.floe.invalid:6443"}, proxy.asked
    proxy.refuses = True
    with floe.Kubernetes(queries.namespace, kubeconfig=file, **SIZE) as context:
        with pytest.raises(floe.exceptions.ContextError, match="(?i)cannot create query .*proxy"):
            runs(context)


INSIDE = """
import sys
sys.path.insert(0, "/tmp/lib")
import floe, polars as pl
with floe.Kubernetes(workers=1, cpus="50m", memory="384Mi", compute={"coordinator": {"cpus": "50m", "memory": "384Mi"}}) as ctx:
    rows = pl.LazyFrame({"a": [1, 2, 3]}).select(pl.col("a").sum()).remote(ctx).collect()
    print(ctx.namespace, rows.item())
    try:
        floe.ComputeContext(name="none").get_status()
    except floe.exceptions.ContextError as error:
        print(error)
"""
UNPACK = "import base64, io, sys, zipfile; zipfile.ZipFile(io.BytesIO(base64.b64decode(sys.stdin.read()))).extractall('/tmp/lib')"


def packages() -> str:
    """Floe with all that it takes to speak to an API server, as base64 of a zip."""
    used = """
import sys, kubernetes.client, kubernetes.config, kubernetes.stream, kubernetes.watch, websocket, cloudpickle
for name in {name.split(".")[0] for name in sys.modules}:
    module = sys.modules.get(name)
    if "site-packages" in (getattr(module, "__file__", None) or ""):
        print(module.__file__)
"""
    done = subprocess.run([sys.executable, "-c", used], capture_output=True, text=True, check=True, timeout=60)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for root in [SOURCES / "floe" / "__init__.py", *map(pathlib.Path, done.stdout.splitlines())]:
            whole = root.parent.rglob("*") if root.name == "__init__.py" else [root]
            top = root.parents[1] if root.name == "__init__.py" else root.parent
            for path in whole:
                if path.is_file() and path.suffix in (".py", ".so", ".pem", ".pyi", ".typed"):
                    file.write(path, path.relative_to(top))
    return base64.b64encode(made.getvalue()).decode()


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="compiled packages of this Python go into a pod that has 3.11")
def test_inside_of_a_pod_its_service_account_is_used(queries, token):
    container = {
        "name": "client", "image": os.environ["FLOE_RUNNER_IMAGE"], "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "600"], "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "640Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    spec = {
        "serviceAccountName": "user", "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}],
    }  # fmt: skip
    at = ["-n", queries.namespace]
    kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"}, "spec": spec}, namespace=queries.namespace)
    try:
        kube.kubectl("wait", "pod/client", *at, "--for=condition=Ready", "--timeout=90s", timeout=100)
        kube.kubectl("exec", "-i", *at, "client", "--", "python3", "-c", UNPACK, input=packages(), timeout=120)
        said = kube.kubectl("exec", *at, "client", "--", "python3", "-c", INSIDE, timeout=240)
    finally:
        kube.kubectl("delete", "pod", "client", *at, timeout=60)
    first, refused = said.strip().splitlines()[-2:]
    assert first == f"{queries.namespace} 6", said
    assert refused.startswith("cannot read context none: ") and f"system:serviceaccount:{queries.namespace}:user" in refused, said


@pytest.fixture
def lines():
    """A table whose scan has all that it takes to read it, keys included."""
    options = {**store.options(), "aws_endpoint_url": store.ENDPOINT}
    return pl.scan_parquet(f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet", storage_options=options)


def flags(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.group_by("l_returnflag").agg(pl.len().alias("n")).sort("l_returnflag")


@pytest.fixture
def want():
    rows = pl.scan_parquet(f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet", storage_options=store.options())
    return flags(rows).collect(engine="in-memory")


def holds(value: object) -> bytes:
    """All that an object says, plans decoded."""
    plan = base64.b64decode(value["spec"]["plan"]["dsl"]["inline"])
    return json.dumps(value).encode() + plan


def test_keys_of_a_plan_go_into_a_secret_of_the_query(queries, lines, want):
    with floe.Kubernetes(queries.namespace, **SIZE) as context:
        with pytest.raises(floe.exceptions.PlanError, match=r'reads s3://.*lineitem.* with aws_access_key_id, .*credentials="plan"'):
            flags(lines).remote(context).collect()
    assert not kube.items("distributedqueries", queries.namespace)
    with floe.Kubernetes(queries.namespace, credentials="plan", **SIZE) as context:
        query = flags(lines).remote(context).execute(blocking=False)
        (made,) = kube.items("distributedqueries", queries.namespace)
        name = made["metadata"]["name"]
        secret = kube.get("secrets", queries.namespace, made["spec"]["storage"]["secretRef"]["name"])
        result = query.await_result()
        assert_frame_equal(result.lazy().collect(engine="in-memory"), want)
        assert store.SECRET.encode() not in holds(made) and b"aws_secret_access_key" not in holds(made)
        # What is no secret is where it was.
        assert store.ENDPOINT.encode() in holds(made)
        values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
        assert values == store.CREDENTIALS
        assert [owner["name"] for owner in secret["metadata"]["ownerReferences"]] == [name]
        result.delete()
        kube.wait("the Secret goes with its query", 60, lambda: kube.get("secrets", queries.namespace, f"{name}-storage") is None)
        # A sink's keys, and none of the scan's.
        uri = f"s3://{store.BUCKET}/{queries.prefix}/keys/"
        written = {**store.options(), "aws_endpoint_url": store.ENDPOINT}
        pl.LazyFrame({"a": [1, 2]}).remote(context).sink_parquet(uri, storage_options=written).await_result()
    assert pl.read_parquet(f"{uri}*.parquet", storage_options=store.options())["a"].to_list() == [1, 2]


def test_keys_of_a_plan_in_a_warm_context(queries, lines, want):
    size = {"cpus": "50m", "memory": "384Mi", "compute": {"coordinator": {"cpus": "50m", "memory": "640Mi"}}}
    with floe.ComputeContext(name="keys", namespace=queries.namespace, credentials="plan", cluster_size=1, **size) as context:
        context.start(wait=True)
        query = flags(lines).remote(context).execute(blocking=False)
        (made,) = kube.items("distributedqueries", queries.namespace)
        result = query.await_result()
        assert_frame_equal(result.lazy().collect(engine="in-memory"), want)
        assert store.SECRET.encode() not in holds(made)
        assert made["spec"]["storage"]["secretRef"]["name"] == f"{made['metadata']['name']}-storage"
        result.delete()
        # Over the open connection nobody else reads them: with and without being put apart.
        for how in ({"credentials": "plan"}, {}):
            direct = floe.ComputeContext(name="keys", namespace=queries.namespace, connection_mode="direct", **how)
            assert_frame_equal(flags(lines).remote(direct).collect(), want)
            direct.close()
    kube.wait("the context is gone", 60, lambda: not kube.items("computecontexts", queries.namespace))
    kube.wait("its pods are gone", 60, lambda: not kube.items("pods", queries.namespace, "floe.dev/context"))
