"""The Python package on a cluster: `floe.Kubernetes`, with the user's own kubeconfig."""

from __future__ import annotations

import base64
import io
import pathlib
import sys
import zipfile
from urllib.parse import urlsplit

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.e2e import kube, store
from tests.python.test_dtypes import come_back_whole, frame

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "python" / "src"))

import floe  # noqa: E402

SMALL = {"coordinator": {"cpus": "50m", "memory": "384Mi"}}


@pytest.fixture
def ctx(queries):
    options = {**store.STORAGE["options"], "aws_endpoint_url": store.ENDPOINT, "aws_region": store.STORAGE["region"]}
    with floe.Kubernetes(
        queries.namespace, workers=2, cpus="50m", memory="384Mi", storage="s3", storage_options=options, compute=SMALL
    ) as context:
        yield context


@pytest.fixture
def lines():
    return pl.scan_parquet(f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet")


def test_rows_come_through_the_api_server(ctx, lines, queries):
    def flags(rows: pl.LazyFrame) -> pl.LazyFrame:
        sums = rows.group_by("l_returnflag").agg(pl.len().alias("n"), pl.col("l_linenumber").sum().alias("s"))
        return sums.sort("l_returnflag")

    lf, uri = flags(lines), f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet"
    want = flags(pl.scan_parquet(uri, storage_options=store.options())).collect(engine="in-memory")
    assert_frame_equal(lf.collect(engine=floe.Engine(ctx)), want)
    # A query whose rows were read is deleted.
    kube.wait("no query is left", 60, lambda: not kube.items("distributedqueries", queries.namespace))
    query = lf.remote(ctx).distributed().execute(blocking=False)
    result = query.await_result()
    assert query.get_status() == floe.QueryStatus.SUCCESS and result.n_rows_total == want.height
    assert_frame_equal(result.head, want.head(10))
    assert_frame_equal(result.lazy().collect(engine="in-memory"), want)
    assert_frame_equal(pl.concat(lf.remote(ctx).collect_batches()), want)
    assert "stage 0" in result.plan() and result.total_stages > 1
    result.delete()


def test_rows_come_straight_from_the_pod_where_it_is_reached(ctx, lines, monkeypatch):
    """As for a client in the cluster: this machine reaches its pods."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", urlsplit(ctx._client.configuration.host).hostname)
    monkeypatch.delattr("floe._forward._Connection")
    counted = lines.select(pl.len().alias("n")).remote(ctx).distributed().collect()
    assert counted.item() > 0


def test_dtypes_come_back_whole(ctx):
    """Enums, categories, decimals, zones, nested ones: through stages, a coordinator's disk and the API server."""
    come_back_whole(ctx)


def test_a_sink_errors_and_cancel(ctx, lines, queries):
    uri = f"s3://{store.BUCKET}/{queries.prefix}/python/"
    result = lines.head(10).remote(ctx).sink_parquet(uri).await_result()
    assert result.n_rows_total == 10 and result.location
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="nothing"):
        lines.select("nothing").remote(ctx).collect()
    slow = pl.concat([lines.select("l_suppkey", "l_quantity")] * 30)
    slow = slow.join(lines.select("l_suppkey", "l_tax"), on="l_suppkey").group_by("l_suppkey").agg(pl.len())
    query = slow.remote(ctx).execute(blocking=False)
    query.cancel()
    assert query.await_result().status == floe.QueryStatus.CANCELED


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="functions travel between the same versions of Python")
def test_python_functions_run_on_the_workers(queries, lines):
    options = {**store.STORAGE["options"], "aws_endpoint_url": store.ENDPOINT, "aws_region": store.STORAGE["region"]}
    doubled = pl.col("l_linenumber").map_elements(lambda number: number * 2, return_dtype=pl.Int64)

    def query(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.head(50_000).with_columns(doubled.alias("n")).group_by("n").agg(pl.len().alias("rows")).sort("n")

    uri = f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet"
    want = query(pl.scan_parquet(uri, storage_options=store.options())).collect(engine="in-memory")
    with floe.Kubernetes(
        queries.namespace, workers=2, cpus="50m", memory="640Mi", storage="s3", storage_options=options, compute=SMALL
    ) as ctx:
        assert_frame_equal(query(lines).remote(ctx).distributed().collect(), want)
        fails = lines.head(10).select(doubled, pl.col("l_tax").map_elements(lambda tax: [][1], return_dtype=pl.Float64))
        with pytest.raises(IndexError, match="list index out of range"):
            fails.remote(ctx).collect()


def wheel(name: str, code: str) -> dict[str, str]:
    """A wheel of one module, as the data of a ConfigMap."""
    info, made = f"{name}-1.0.dist-info", io.BytesIO()
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(made, "w") as file:
        for path, text in files.items():
            file.writestr(path, text)
    return {f"{name}-1.0-py3-none-any.whl": base64.b64encode(made.getvalue()).decode()}


def test_packages_that_functions_import(queries):
    """Without an index: the wheel comes from a ConfigMap."""
    binary = wheel("floe_hello", "def greet(number):\n    return f'hello {number}'\n")
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "wheels"}, "binaryData": binary}, namespace=queries.namespace)
    mounted = {"containers": [{"name": "floe", "volumeMounts": [{"name": "wheels", "mountPath": "/wheels"}]}]}
    compute = {
        **SMALL,
        "env": [{"name": "PIP_NO_INDEX", "value": "1"}, {"name": "PIP_FIND_LINKS", "value": "/wheels"}],
        "podTemplate": {"spec": {**mounted, "volumes": [{"name": "wheels", "configMap": {"name": "wheels"}}]}},
    }

    def greet(number):
        import floe_hello

        return floe_hello.greet(number)

    lf = pl.LazyFrame({"n": range(1000)}).select(pl.col("n").map_elements(greet, return_dtype=pl.String))
    size = {"workers": 2, "cpus": "50m", "memory": "640Mi", "compute": compute}
    with floe.Kubernetes(queries.namespace, requirements=["floe-hello==1.0"], **size) as ctx:
        assert lf.remote(ctx).distributed().collect()["n"].to_list() == [f"hello {n}" for n in range(1000)]
    with floe.Kubernetes(queries.namespace, requirements=["floe-goodbye"], **size) as ctx:
        with pytest.raises(floe.exceptions.FloeError, match="(?s)spec.compute.requirements cannot be installed.*floe-goodbye"):
            lf.remote(ctx).collect()


@pytest.mark.parametrize("mode", ["proxy", "direct"])
def test_a_warm_context(lines, queries, mode):
    options = {**store.STORAGE["options"], "aws_endpoint_url": store.ENDPOINT, "aws_region": store.STORAGE["region"]}
    size = {"namespace": queries.namespace, "cpus": "50m", "memory": "384Mi", "compute": {"coordinator": {"cpus": "50m", "memory": "640Mi"}}}
    by_flag = lines.group_by("l_returnflag").agg(pl.len().alias("n")).sort("l_returnflag")
    uri = f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet"
    want = pl.scan_parquet(uri, storage_options=store.options()).group_by("l_returnflag").agg(pl.len().alias("n"))
    want = want.sort("l_returnflag").collect(engine="in-memory")
    context = floe.ComputeContext(
        name=f"py-{mode}", cluster_size=2, min_workers=1, storage="s3", storage_options=options, connection_mode=mode, **size
    )
    assert context.get_status() == floe.ComputeContextStatus.UNINITIALIZED
    with context:
        context.start(wait=True)
        assert context.get_status().is_available()
        # The context of the block, and its storage.
        assert_frame_equal(by_flag.remote().collect(), want)
        assert_frame_equal(pl.concat(by_flag.remote().collect_batches()), want)
        typed = frame()
        got = typed.lazy().remote().collect()
        assert got.schema == typed.schema
        assert_frame_equal(got, typed, categorical_as_str=True)
        with pytest.raises(pl.exceptions.ColumnNotFoundError, match="nothing"):
            lines.select("nothing").remote().collect()
        again = floe.ComputeContext(name=f"py-{mode}", namespace=queries.namespace)
        assert again.name in [one.name for one, _ in floe.ComputeContext.list(queries.namespace)]
        assert pl.LazyFrame({"a": [1, 2]}).sum().remote(again).show().item() == 3
        if mode == "direct":
            assert not [one for one in kube.items("distributedqueries", queries.namespace) if not one["metadata"].get("deletionTimestamp")]
    kube.wait("the context is gone", 60, lambda: not kube.items("computecontexts", queries.namespace))
    assert context.get_status() == floe.ComputeContextStatus.STOPPED
    kube.wait("its pods are gone", 60, lambda: not kube.items("pods", queries.namespace, "floe.dev/context"))
