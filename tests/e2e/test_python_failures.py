"""What a client of the Python package sees when something breaks between it and its query: cut connections, a lost API server,
credentials that are taken away, its own death. docs/failures.md has the same as a table."""

from __future__ import annotations

import json
import pathlib
import signal
import sys
import threading
import time
from urllib.parse import urlsplit

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.e2e import clients, kube, store
from tests.e2e.clients import OPTIONS, URI, client, killed, lasting
from tests.e2e.queries import ROOMY
from tests.relay import Relay

sys.path.insert(0, str(clients.SOURCE))

import floe  # noqa: E402
from floe.exceptions import ConnectionLostError, ContextError, ResultGoneError  # noqa: E402

SIZE = {"workers": 2, "cpus": "50m", "memory": ROOMY, "compute": {"coordinator": {"cpus": "50m", "memory": "384Mi"}}}
TIMES = 4
#: A part of the large result, and more than a portion of it.
CUT_BYTES = 16 << 20
# In place of a minute, where the connection does not come back.
PATIENCE_SECONDS = 3.0


def large() -> pl.LazyFrame:
    """Some sixty megabytes of rows in several portions."""
    return pl.concat([pl.scan_parquet(URI).select("l_orderkey", "l_partkey", "l_suppkey")] * TIMES)


@pytest.fixture(scope="session")
def lasting_result(groups_result) -> pl.DataFrame:
    return clients.lasting_result(groups_result)


@pytest.fixture(scope="session")
def large_result() -> pl.DataFrame:
    one = pl.scan_parquet(URI, storage_options=store.options()).select("l_orderkey", "l_partkey", "l_suppkey")
    return pl.concat([one.collect(engine="in-memory")] * TIMES)


@pytest.fixture
def relay():
    """Between the client and the API server."""
    server = urlsplit(config()["clusters"][0]["cluster"]["server"])
    with Relay(server.hostname, server.port or 443) as between:
        yield between


def config() -> dict:
    """The user's own kubeconfig, with one context."""
    return json.loads(kube.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))


@pytest.fixture
def through(relay, tmp_path) -> pathlib.Path:
    """A kubeconfig of the cluster behind the relay."""
    path = tmp_path / "config"
    path.write_text(json.dumps(behind(relay, config())))
    return path


def behind(relay: Relay, told: dict) -> dict:
    cluster = told["clusters"][0]["cluster"]
    host = urlsplit(cluster["server"]).hostname
    cluster["server"] = f"https://127.0.0.1:{relay.port}"
    if host != "127.0.0.1":
        cluster["tls-server-name"] = host
    return told


@pytest.fixture
def near(queries):
    """The cluster without a relay: another client, later."""
    with floe.Kubernetes(queries.namespace, storage="s3", storage_options=OPTIONS, **SIZE) as context:
        yield context


@pytest.fixture
def far(queries, through):
    """The client whose connections break."""
    with floe.Kubernetes(queries.namespace, storage="s3", storage_options=OPTIONS, kubeconfig=through, **SIZE) as context:
        yield context


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("floe._retry.SECONDS", PATIENCE_SECONDS)


class Waiting:
    """A call that blocks, in a thread of its own, and how it ended."""

    def __init__(self, call):
        self.value = self.error = None

        def run():
            try:
                self.value = call()
            except BaseException as error:  # noqa: BLE001 - told to the test
                self.error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def end(self, limit_seconds: float = 240):
        self._thread.join(limit_seconds)
        assert self.ended, f"not within {limit_seconds:g} s: the client's end"
        if self.error is not None:
            raise self.error
        return self.value


def equal(got: pl.DataFrame, want: pl.DataFrame) -> None:
    assert_frame_equal(got.sort("l_suppkey"), want.sort("l_suppkey"), check_column_order=False, check_exact=False)


def only_query(queries) -> str:
    """The id of the one query of a namespace, once it runs."""

    def running():
        found = kube.items("distributedqueries", queries.namespace)
        return [one["metadata"]["name"] for one in found if (one.get("status") or {}).get("phase") == "Running"]

    return kube.wait("a query runs", 90, running, lambda: kube.story(queries.namespace))[0]


def warm(queries, kubeconfig, **more) -> floe.ComputeContext:
    compute = {"coordinator": {"cpus": "50m", "memory": "640Mi"}}
    return floe.ComputeContext(
        name="warm", namespace=queries.namespace, kubeconfig=kubeconfig, cpus="50m", memory=ROOMY, cluster_size=2,
        min_workers=2, storage="s3", storage_options=OPTIONS, connection_mode="direct", compute=compute, **more,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["proxy", "direct"])
def test_waiting_and_reading_survive_cut_connections(queries, through, relay, far, mode, lasting_result, large_result):
    with far if mode == "proxy" else warm(queries, through) as ctx:
        query = lasting(queries.gate()).remote(ctx).distributed().execute(blocking=False)
        waiting = Waiting(query.await_result)
        kube.wait("the query runs", 90, lambda: query.get_status() == floe.QueryStatus.INPROGRESS, lambda: kube.story(queries.namespace))
        for reset in (True, False):
            relay.cut(reset=reset)
            time.sleep(1)
        relay.close()
        time.sleep(3)
        assert not waiting.ended, "the query is over too soon for this test"
        relay.open()
        queries.open()
        result = waiting.end()
        assert result.status == floe.QueryStatus.SUCCESS
        equal(result.lazy().collect(engine="in-memory"), lasting_result)
        result.delete()
        assert relay.cuts >= 2
        # Cut in the middle of the rows, again and again.
        result = large().remote(ctx).distributed().execute()
        before = relay.cuts
        relay.cut_after(CUT_BYTES)
        frame = result.lazy().collect(engine="in-memory")
        assert relay.cuts >= before + 3, f"{relay.cuts - before} cuts: the result is too small for this test"
        assert_frame_equal(frame, large_result)
        result.delete()
        before = relay.cuts
        assert_frame_equal(pl.concat(large().remote(ctx).distributed().collect_batches()), large_result)
        assert relay.cuts >= before + 3
        relay.cut_after(None)
    kube.wait("no query is left", 60, lambda: not kube.items("distributedqueries", queries.namespace))


def test_an_api_server_that_is_gone_for_good_ends_the_client_and_not_the_query(queries, far, near, relay, impatient, lasting_result):
    waiting = Waiting(lambda: lasting(queries.gate()).remote(far).distributed().collect())
    name = only_query(queries)
    relay.close()
    begin = time.monotonic()
    with pytest.raises(ConnectionLostError, match=rf"does not answer(?s:.*)query {name} runs on: query\('{name}'\)") as caught:
        waiting.end()
    assert PATIENCE_SECONDS <= time.monotonic() - begin < 60
    assert caught.value.query_id == name and isinstance(caught.value, ConnectionError)
    assert queries.status(name)["phase"] == "Running"
    # Another client takes it up by its name, and gets all of it.
    queries.open()
    query = near.query(name)
    equal(query.await_result().lazy().collect(engine="in-memory"), lasting_result)
    assert "stage 0" in query.plan()
    with pytest.raises(ValueError, match="by its id"):
        query.plan("ir")
    query.delete_result()
    queries.no_pods(name)
    with pytest.raises(ResultGoneError, match="was deleted"):
        near.query(name)


def test_rows_that_a_lost_connection_leaves_behind_are_kept(queries, far, near, relay, impatient, large_result):
    batches = large().remote(far).distributed().collect_batches()
    # One that is cut in the middle of the rows, and never comes back.
    relay.cut_after(CUT_BYTES)
    first = next(iter(batches))
    [name] = [one["metadata"]["name"] for one in kube.items("distributedqueries", queries.namespace)]
    relay.close()
    with pytest.raises(ConnectionLostError, match=f"query {name} keeps its rows"):
        for _ in batches:
            pass
    assert queries.status(name)["phase"] == "Succeeded"
    assert 0 < first.height < large_result.height
    query = near.query(name)
    assert_frame_equal(query.await_result().lazy().collect(engine="in-memory"), large_result)
    query.delete_result()


def test_rows_go_with_their_coordinator_and_waiting_with_the_query(queries, near):
    query = large().remote(near).distributed().execute(blocking=False)
    assert query.await_result().status == floe.QueryStatus.SUCCESS
    batches = query._batches()
    assert next(batches).height > 0
    pod = queries.pod(query.id, "coordinator")["metadata"]["name"]
    # Nobody reads on meanwhile, so that the rest is still there.
    kube.kubectl("delete", "pod", pod, "-n", queries.namespace, "--now")
    with pytest.raises(ResultGoneError, match=f"pod {pod} is gone"):
        for _ in batches:
            pass
    query.delete_result()
    waiting = Waiting(lambda: lasting(queries.gate()).remote(near).distributed().collect())
    name = only_query(queries)
    queries.delete(name)
    with pytest.raises(ResultGoneError, match=f"query {name}(?s:.*)was deleted"):
        waiting.end()


def test_credentials_that_are_taken_away_end_the_client_and_not_the_query(queries, near, relay, tmp_path, lasting_result):
    rules = [
        {"apiGroups": ["floe.dev"], "resources": ["distributedqueries"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]},
    ]
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": "analyst", "namespace": queries.namespace}
    kube.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "analyst"}},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": "analyst"}, "rules": rules},
        {
            "apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": {"name": "analyst"}, "subjects": [subject],
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "analyst"},
        },
        namespace=queries.namespace,
    )  # fmt: skip
    token = kube.kubectl("create", "token", "analyst", "-n", queries.namespace, "--duration=10m").strip()
    told = behind(relay, config())
    told["users"][0]["user"] = {"token": token}
    path = tmp_path / "analyst"
    path.write_text(json.dumps(told))
    with floe.Kubernetes(queries.namespace, storage="s3", storage_options=OPTIONS, kubeconfig=path, **SIZE) as ctx:
        # What docs/python.md says is needed is enough.
        assert pl.LazyFrame({"a": [1, 2]}).sum().remote(ctx).collect().item() == 3
        query = lasting(queries.gate()).remote(ctx).distributed().execute(blocking=False)
        waiting = Waiting(query.await_result)
        name = only_query(queries)
        kube.kubectl("delete", "serviceaccount", "analyst", "-n", queries.namespace)
        whoami = ("--kubeconfig", path, "get", "dq", "-n", queries.namespace)
        kube.wait("the token is refused", 60, lambda: "Unauthorized" in kube.run(*whoami).stderr or "logged in" in kube.run(*whoami).stderr)
        # A watch that is open goes on as it is; the next one is refused, at once.
        relay.cut()
        begin = time.monotonic()
        with pytest.raises(ContextError, match=f"credentials(?s:.*)query {name} runs on") as caught:
            waiting.end()
        assert not isinstance(caught.value, ConnectionLostError) and time.monotonic() - begin < 10
        assert caught.value.query_id == name
        with pytest.raises(ContextError, match="credentials"):
            query.cancel()
    queries.open()
    queries.succeeded(name)
    taken = near.query(name)
    equal(taken.await_result().lazy().collect(engine="in-memory"), lasting_result)
    taken.delete_result()


def test_a_query_outlives_a_killed_client_and_removes_itself(queries):
    credentials = {**store.CREDENTIALS}
    process = client("Kubernetes", queries.gate(), namespace=queries.namespace, credentials=credentials, storage_options=OPTIONS, ttl=10, **SIZE)
    name = process.stdout.readline().strip()
    assert name
    assert only_query(queries) == name
    secret = f"{name}-storage"
    assert kube.get("secrets", queries.namespace, secret)
    killed(process)
    assert queries.status(name)["phase"] == "Running"
    queries.open()
    queries.succeeded(name)
    # Nobody is there to delete it: its time to live does it, and its pods and Secrets go with it.
    kube.wait(f"{name} is gone", 60, lambda: queries.get(name) is None, lambda: kube.story(queries.namespace))
    kube.wait(
        "its pods and Secrets are gone", 60,
        lambda: not queries.left(name) and kube.get("secrets", queries.namespace, secret) is None,
        lambda: f"{queries.left(name)}\n{kube.story(queries.namespace)}",
    )  # fmt: skip


def test_a_query_of_a_killed_direct_client_runs_on_at_its_coordinator(queries, lasting_result):
    with warm(queries, None) as ctx:
        ctx.start(wait=True)
        process = client("ComputeContext", queries.gate(), name="warm", namespace=queries.namespace, connection_mode="direct")
        id = process.stdout.readline().strip()
        assert id
        query = ctx.query(id)
        kube.wait("the query runs", 60, lambda: query.get_status() == floe.QueryStatus.INPROGRESS)
        killed(process)
        queries.open()
        result = ctx.query(id).await_result()
        equal(result.lazy().collect(engine="in-memory"), lasting_result)
        result.delete()
        with pytest.raises(ResultGoneError, match="no query"):
            ctx.query(id)
    kube.wait("the context's pods are gone", 60, lambda: not kube.items("pods", queries.namespace, "floe.dev/context"))


def test_an_interrupted_client_cancels_its_query(queries):
    process = client("Kubernetes", queries.gate(), namespace=queries.namespace, storage="s3", storage_options=OPTIONS, **SIZE)
    name = process.stdout.readline().strip()
    assert only_query(queries) == name
    process.send_signal(signal.SIGINT)
    # It ends as a program that is interrupted does, once the query has been told.
    assert process.wait(timeout=30) == -signal.SIGINT
    process.stdout.close()
    status = queries.phase(name, "Cancelled", limit_seconds=30)
    assert status["attempt"] == 1
    queries.no_pods(name)
