"""What `floe.Kubernetes` makes and refuses, without a cluster; tests/e2e/test_python.py runs it on one."""

from __future__ import annotations

import base64
import io
import json
import pathlib
import subprocess
import warnings

import polars as pl
import pytest

import floe
from floe import _api, _options, _run
from floe._binaries import find
from floe._cluster import _error
from floe._request import Request
from floe.exceptions import ContextError, IgnoredArgumentWarning, LocalFileError, PlanError, error_of

pytest.importorskip("kubernetes")


@pytest.fixture
def cluster(config):
    with floe.Kubernetes(kubeconfig=config, workers=2, cpus=4, memory="16Gi", storage="lake") as context:
        yield context


ROWS = pl.LazyFrame({"a": [1]})


def asked(lf: pl.LazyFrame, **settings: object) -> _run.Request:
    return _run.request(lf, _options.Settings(**settings), _run.pl.QueryOptFlags())


def made_of(ctx: floe.Kubernetes, request: Request) -> tuple[dict, dict | None]:
    """The object of a query, and what its Secret has."""
    request, credentials = ctx._apart(request)
    return ctx._object("py-1", request, credentials), credentials


def plan_of(made: dict) -> bytes:
    return base64.b64decode(made["spec"]["plan"]["dsl"]["inline"])


def test_files_of_this_machine_are_refused_before_anything_is_created(cluster):
    with pytest.raises(LocalFileError, match=r"reads data/x\.parquet"):
        pl.scan_parquet("data/x.parquet").remote(cluster).execute(blocking=False)
    joined = pl.scan_parquet("s3://lake/x").join(pl.scan_csv("/a/b.csv", schema={"a": pl.Int64}), on="a")
    with pytest.raises(LocalFileError, match=r"reads /a/b\.csv"):
        joined.remote(cluster).execute(blocking=False)
    with pytest.raises(LocalFileError, match=r"writes /tmp/out\.parquet"):
        pl.LazyFrame({"a": [1]}).remote(cluster).sink_parquet("/tmp/out.parquet")
    with pytest.raises(PlanError, match="object store"):
        pl.LazyFrame({"a": range(200_000)}).remote(cluster).execute(blocking=False)


def test_a_cluster_that_does_not_answer_is_told(cluster, config):
    assert cluster.namespace == "analytics"
    with pytest.raises(ContextError, match="cannot create query"):
        pl.LazyFrame({"a": [1]}).remote(cluster).execute(blocking=False)
    with pytest.raises(ContextError, match="kubeconfig cannot be used"):
        floe.Kubernetes(kubeconfig=config, context="other")


def test_a_plugin_without_credentials_is_told(config, tmp_path):
    """Where it gives some: tests/e2e/test_python_access.py."""
    told = json.loads(config.read_text())
    program = tmp_path / "plugin"
    told["users"][0]["user"] = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program), "interactiveMode": "Never"}}
    config.write_text(json.dumps(told))
    for script, words in (("echo 'log in first' >&2; exit 1", "log in first"), ("echo hello", "failed to decode")):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        with pytest.raises(ContextError, match=f"the kubeconfig cannot be used: exec: .*{words}"):
            floe.Kubernetes(kubeconfig=config)


def test_the_object_is_one_that_floe_takes(cluster, tmp_path):
    settings = {"mode": "distributed", "max_workers": 5, "n_retries": 1, "labels": {"team": "true"}}
    request = asked(pl.scan_parquet("s3://lake/x/*.parquet").select("a"), shuffle_compression="zstd", **settings)
    made, _ = made_of(cluster, request)
    assert made["spec"]["storage"] == {"secretRef": {"name": "lake"}}
    assert made["spec"]["compute"] == {"cpus": "4", "memory": "16Gi", "maxWorkers": 5, "minWorkers": 2}
    path = tmp_path / "query.json"
    path.write_text(json.dumps(made))
    done = subprocess.run([find("floe"), "validate", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_credentials_come_from_the_environment_only_when_asked_for(config, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="the environment has none"):
        floe.Kubernetes(kubeconfig=config, credentials="environment")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never printed")
    with floe.Kubernetes(kubeconfig=config, credentials="environment") as ctx:
        made, credentials = made_of(ctx, asked(pl.LazyFrame({"a": [1]})))
        assert made["spec"]["storage"] == {"secretRef": {"name": "py-1-storage"}}
        assert credentials == {"aws_access_key_id": "key", "aws_secret_access_key": "never printed"}
        assert "never printed" not in json.dumps(made) + repr(ctx) + ctx._repr_html_()
    with floe.Kubernetes(kubeconfig=config) as ctx:
        made, credentials = made_of(ctx, asked(pl.LazyFrame({"a": [1]})))
        assert "storage" not in made["spec"] and credentials is None
    with pytest.raises(ValueError, match="not with storage"):
        floe.Kubernetes(kubeconfig=config, credentials={"a": "b"}, storage="lake")
    with pytest.raises(ValueError, match="storage_options: aws_secret_access_key belong into credentials="):
        floe.Kubernetes(kubeconfig=config, storage_options={"aws_region": "r", "aws_secret_access_key": "b"})
    with pytest.raises(ValueError, match="neither 'environment' nor 'plan'"):
        floe.Kubernetes(kubeconfig=config, credentials="env")


KEYS = {"aws_access_key_id": "PLAN-KEY", "aws_secret_access_key": "PLAN-SECRET"}
PLAIN = {"aws_region": "eu-central-1", "aws_endpoint_url": "http://store:9000", "aws_allow_http": "true"}


def test_keys_in_a_plan_are_refused_before_anything_is_created(cluster, config):
    scan = pl.scan_parquet("s3://lake/x/*.parquet", storage_options=KEYS | PLAIN)
    told = r"aws_access_key_id, aws_secret_access_key in its storage_options.*storage=.*credentials=\"plan\""
    with pytest.raises(PlanError, match=r"the plan reads s3://lake/x/\*\.parquet with " + told):
        scan.remote(cluster).execute(blocking=False)
    with pytest.raises(PlanError, match=r"the plan writes s3://lake/y\.parquet with " + told) as refused:
        pl.LazyFrame({"a": [1]}).remote(cluster).sink_parquet("s3://lake/y.parquet", storage_options=KEYS)
    assert "PLAN-SECRET" not in str(refused.value)
    orders = {"uri": "az://lake/o.parquet", "options": {"storage_options": {"account_name": "a", "account_key": "PLAN-SECRET"}}}
    with pytest.raises(PlanError, match="table orders is read with account_key in its storage_options"):
        floe.sql("select * from orders", {"orders": orders}, cluster).execute(blocking=False)
    # What says who asks without a secret is nobody's to hide.
    for options in (PLAIN, {"aws_skip_signature": "true"}):
        made, _ = made_of(cluster, asked(pl.scan_parquet("s3://lake/x", storage_options=options)))
        assert all(value.encode() in plan_of(made) for value in options.values())


def test_keys_of_a_plan_go_into_its_secret(config, tmp_path, monkeypatch):
    # Else Polars asks AWS for the region of the bucket when it shows a plan.
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    scan = pl.scan_parquet("s3://lake/x.parquet", storage_options=KEYS | PLAIN, schema={"a": pl.Int64})
    other = pl.scan_parquet("s3://lake/o.parquet", schema={"a": pl.Int64})
    azure = pl.scan_csv("abfss://c@acc.dfs.core.windows.net/z.csv", schema={"a": pl.Int64}, storage_options={
        "client_id": "id", "client_secret": "PLAN-SECRET", "tenant_id": "t"})  # fmt: skip
    azure_keys = {"azure_storage_client_id": "id", "azure_storage_client_secret": "PLAN-SECRET", "azure_storage_tenant_id": "t"}
    with floe.Kubernetes(kubeconfig=config, credentials="plan", storage_options={"aws_region": "r"}) as ctx:
        lf = scan.join(other, on="a").join(azure, on="a")
        made, credentials = made_of(ctx, asked(lf))
        assert credentials == KEYS | azure_keys
        assert made["spec"]["storage"] == {"options": {"aws_region": "r"}, "secretRef": {"name": "py-1-storage"}}
        plan = plan_of(made)
        assert b"PLAN-" not in json.dumps(made).encode() + plan
        assert all(value.encode() in plan for value in PLAIN.values())
        # It is the same plan otherwise, also to Polars.
        assert pl.LazyFrame.deserialize(io.BytesIO(plan)).explain(optimized=False) == lf.explain(optimized=False)
        path = tmp_path / "query.json"
        path.write_text(json.dumps(made))
        done = subprocess.run([find("floe"), "validate", path], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        # One set of keys for a kind of store, whoever wrote them.
        theirs = pl.scan_parquet("s3://theirs/x.parquet", storage_options=KEYS | {"aws_session_token": "t"}, schema={"a": pl.Int64})
        public = pl.scan_parquet("s3://public/x.parquet", storage_options={"skip_signature": "true"}, schema={"a": pl.Int64})
        for second in (theirs, public):
            with pytest.raises(PlanError, match=r"reads s3://lake/x\.parquet with other credentials than reads s3://\w+/x\.parquet"):
                made_of(ctx, asked(scan.join(second, on="a")))
        table = {"uri": "s3://lake/t/*.parquet", "options": {"n_rows": 5, "storage_options": KEYS | PLAIN}}
        made, credentials = made_of(ctx, Request(sql={"plan": {"sql": "select 1"}, "tables": {"t": table}}))
        assert credentials == KEYS
        assert made["spec"]["tables"]["t"]["options"] == {"n_rows": 5, "storage_options": PLAIN}
        # Without keys there is no Secret, and the storage is what it was.
        made, credentials = made_of(ctx, asked(other))
        assert credentials is None and made["spec"]["storage"] == {"options": {"aws_region": "r"}}


FIXTURES = pathlib.Path(__file__).parents[1] / "plans" / "fixtures"


@pytest.mark.parametrize("version", ["1.43.2", "1.44.2", "2.0.0", "2.1.0"])
def test_keys_of_a_plan_of_any_version(version, config):
    with floe.Kubernetes(kubeconfig=config, credentials="plan") as ctx:
        stores = {"scan-s3": KEYS, "sink-s3": KEYS, "scan-az": {"azure_storage_account_key": "PLAN-SECRET"}}
        for name, keys in stores.items():
            request = Request(plan=(FIXTURES / version / f"{name}.bin").read_bytes())
            made, credentials = made_of(ctx, request)
            assert credentials == keys and b"PLAN-" not in plan_of(made), name
            if name == "sink-s3":
                # Still a plan, by the engine's own reading; nothing has to be read from the store to say its stages.
                apart, _ = ctx._apart(request)
                assert b"eu-central-1" in apart.plan and "stage 0" in ctx._explain(apart, "text")


def test_credential_providers_stay_in_this_process(config):
    secret = "in the closure"

    def provider():
        return {"aws_access_key_id": "x", "aws_secret_access_key": secret}, None

    lf = pl.scan_parquet("s3://lake/x.parquet", credential_provider=provider)
    assert b"in the closure" in lf.serialize()
    with floe.Kubernetes(kubeconfig=config) as ctx, pytest.warns(IgnoredArgumentWarning, match="credential_provider"):
        made, credentials = made_of(ctx, asked(lf))
    assert b"in the closure" not in plan_of(made) and credentials is None


def test_a_token_of_huggingface_stays_unless_it_is_asked_for(config, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_machine")
    lf = pl.scan_parquet("hf://datasets/a/b/x.parquet")
    assert b"hf_of_this_machine" in lf.serialize()
    with floe.Kubernetes(kubeconfig=config) as ctx, pytest.warns(IgnoredArgumentWarning, match="HuggingFace"):
        made, credentials = made_of(ctx, asked(lf))
    assert b"hf_of_this_machine" not in plan_of(made) and credentials is None
    with floe.Kubernetes(kubeconfig=config, credentials="plan") as ctx:
        made, credentials = made_of(ctx, asked(lf))
    assert b"hf_of_this_machine" not in plan_of(made) and credentials == {"hf_token": "hf_of_this_machine"}


def test_a_warm_context_is_an_object_that_floe_takes(config, tmp_path):
    with pytest.warns(floe.exceptions.IgnoredArgumentWarning, match="workspace"):
        ctx = floe.ComputeContext(
            kubeconfig=config, name="warm", cpus=4, memory=16, storage=50, cluster_size=8, min_workers=1, idle_timeout_mins=30,
            env_vars={"A": "b"}, workspace="w", fair_share="user",
        )  # fmt: skip
    body = {"apiVersion": "floe.dev/v1alpha1", "kind": "ComputeContext", "metadata": {"name": "warm"}, "spec": ctx._size}
    assert body["spec"]["minWorkers"] == 1 and body["spec"]["maxWorkers"] == 8 and body["spec"]["idleTimeoutSeconds"] == 1800
    assert body["spec"]["compute"]["memory"] == "16Gi" and body["spec"]["compute"]["scratch"] == {"size": "50Gi"}
    assert body["spec"]["fairShare"] == {"label": "user"}
    shared = {"label": "user", "weights": {"nightly": 3}}
    assert floe.ComputeContext(kubeconfig=config, fair_share=shared)._size == {"fairShare": shared}
    with pytest.warns(floe.exceptions.IgnoredArgumentWarning, match="max_workers"):
        made, _ = made_of(ctx, asked(pl.LazyFrame({"a": [1]}), max_workers=5, labels={"user": "ann"}, priority=3))
    assert made["spec"]["labels"] == {"user": "ann"} and made["spec"]["priority"] == 3
    assert made["spec"]["compute"] == {"contextRef": {"name": "warm"}} and "storage" not in made["spec"]
    path = tmp_path / "objects.json"
    path.write_text(json.dumps(made))
    done = subprocess.run([find("floe"), "validate", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.raises(ContextError, match="cannot read context warm"):
        ctx.start()
    listed = tmp_path / "requirements.txt"
    listed.write_text("# ours\nsix==1.17.0 \\\n    --hash=sha256:ab\n\nattrs>=23  # newer\n")
    for context in (floe.ComputeContext(kubeconfig=config, requirements=listed), floe.Kubernetes(kubeconfig=config, requirements=str(listed))):
        size = context._size["compute"] if isinstance(context, floe.ComputeContext) else context._compute
        assert size["requirements"] == ["six==1.17.0 --hash=sha256:ab", "attrs>=23"]
    with pytest.raises(ValueError, match="--index-url .*PIP_INDEX_URL"):
        floe.ComputeContext(kubeconfig=config, requirements=["--index-url https://example.org/simple"])
    with pytest.raises(ValueError, match="neither"):
        floe.ComputeContext(kubeconfig=config, connection_mode="fast")


@pytest.mark.parametrize(
    ("use", "match"),
    [
        (lambda config: made_of(floe.Kubernetes(kubeconfig=config), asked(ROWS, priority=2)), "priority.*priorityClassName"),
        (lambda config: floe.ComputeContext(kubeconfig=config, ttl=60, connection_mode="direct"), "ttl"),
        (lambda config: floe.ComputeContext(kubeconfig=config, instance_type="m6i.large"), "instance_type"),
    ],
)
def test_what_means_nothing_to_a_cluster_warns(config, use, match):
    """As `test_remote.py` has it for a local context."""
    with pytest.warns(IgnoredArgumentWarning, match=match) as caught:
        use(config)
    assert [warning.filename for warning in caught] == [__file__]


def test_nothing_of_a_context_warns_without_reason(config):
    with warnings.catch_warnings():
        warnings.simplefilter("error", floe.exceptions.FloeWarning)
        made, _ = made_of(floe.ComputeContext(name="warm", kubeconfig=config, ttl=60), asked(ROWS, priority=2))
        floe.ComputeContext(kubeconfig=config, connection_mode="direct")
    assert made["spec"]["priority"] == 2 and made["spec"]["compute"] == {"contextRef": {"name": "warm"}}


def test_what_is_not_there_is_passed_over_with_every_client_library():
    """Version 31 has one class for all statuses."""
    from kubernetes.client import ApiException

    with _api.if_there():
        raise ApiException(status=404)
    with pytest.raises(ApiException), _api.if_there():
        raise ApiException(status=403)


def test_plans_are_explained_without_a_cluster(cluster):
    lf = pl.LazyFrame({"k": [1, 2], "v": [1, 2]}).group_by("k").agg(pl.col("v").sum())
    assert "stage 0" in lf.remote(cluster).distributed().explain()


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (("QueryFailed", "ColumnNotFoundError: x. To do: correct the plan"), pl.exceptions.ColumnNotFoundError, "x"),
        (("OutOfMemory", "a task needs more. To do: raise memory"), floe.exceptions.OutOfMemoryError, "raise memory"),
        (("Deadline", "activeDeadlineSeconds passed"), floe.exceptions.DeadlineError, "passed"),
        (("BadSpec", "compute.cpus is wrong"), PlanError, "compute.cpus"),
        (("QueryFailed", "IndexError: out of range\n\nin the Python function f:\n  line 2, in f. To do: x"), IndexError, "in f"),
        (("Internal", "IndexError: a fault of Floe"), floe.exceptions.InternalError, "a fault"),
    ],
)
def test_a_status_says_which_error_it_is(status, kind, text):
    error = error_of(_error({"phase": "Failed", "reason": status[0], "message": status[1]}))
    assert type(error) is kind and text in str(error)
