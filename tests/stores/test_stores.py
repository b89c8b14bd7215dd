"""Tables and sinks in the stores that are not S3: Azure Blob, Google Cloud Storage, plain HTTP. Each is a server on loopback
that speaks the store's protocol; what Floe wrote there is read back by Polars' Python wheel."""

from __future__ import annotations

import io
import json
import os
import pathlib
import shutil
import subprocess
import urllib.parse
import urllib.request

import polars as pl
import pytest
import yaml

from tests import support
from tests.conftest import REPO, free_port, server

TOOLS = REPO / "tests" / "tools"
CACHE = pathlib.Path(os.environ.get("FLOE_CACHE", pathlib.Path.home() / ".cache" / "floe"))
# The account that every Azurite has; no secret.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def get(what: str, command: list, directory: pathlib.Path, **environment: str) -> None:
    """Gets a server from its package registry. Where that has none, its store is not tried, and pytest says so."""
    try:
        got = subprocess.run(
            command, cwd=directory, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=300,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip(f"{what} cannot be had here: nothing after five minutes")
    if got.returncode != 0:
        pytest.skip(f"{what} cannot be had here: {' '.join(got.stdout.split())[-300:]}")


@pytest.fixture(scope="module")
def azure(tmp_path_factory):
    """Options for a container `lake` of an Azurite."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed: Azure Blob is not tried")
    installed = CACHE / "azurite-3.35.0"
    if not (installed / ".complete").exists():
        shutil.rmtree(installed, ignore_errors=True)
        shutil.copytree(TOOLS / "azurite", installed)
        get("Azurite", ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], installed)
        (installed / ".complete").touch()
    directory, port = tmp_path_factory.mktemp("azurite"), free_port()
    command = [
        "node", str(installed / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"),
        "--location", str(directory / "data"), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--skipApiVersionCheck",
        "--disableTelemetry",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with server(command, url, directory / "log"):
        # Clients of the emulator take its address from the environment.
        os.environ["AZURITE_BLOB_STORAGE_URL"] = url
        try:
            make_container(f"{url}/{ACCOUNT}/lake?restype=container")
            yield {"account_name": ACCOUNT, "account_key": KEY, "use_emulator": "true", "allow_http": "true"}
        finally:
            del os.environ["AZURITE_BLOB_STORAGE_URL"]


def make_container(url: str) -> None:
    """Signed by hand, to need no client library: shared key, version 2021-12-02."""
    import base64
    import email.utils
    import hashlib
    import hmac

    date = email.utils.formatdate(usegmt=True)
    headers = f"x-ms-date:{date}\nx-ms-version:2021-12-02\n"
    text = "PUT" + "\n" * 12 + headers + f"/{ACCOUNT}/{ACCOUNT}/lake\nrestype:container"
    signed = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
    call = urllib.request.Request(url, method="PUT", headers={
        "x-ms-date": date, "x-ms-version": "2021-12-02", "Authorization": f"SharedKey {ACCOUNT}:{signed}", "Content-Length": "0",
    })  # fmt: skip
    urllib.request.urlopen(call, timeout=10).close()


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    """Address and options of a fake-gcs-server with a bucket `lake`. It takes no uploads by the protocol that object
    stores are written with (XML), so tables are put there by the other one, and only reading is tried."""
    program = CACHE / "bin" / "fake-gcs-server-v1.52.3"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        made = program.with_suffix(f".{os.getpid()}")
        build = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", made, "github.com/fsouza/fake-gcs-server"]
        get("fake-gcs-server", build, TOOLS / "fakegcs", CGO_ENABLED="0")
        made.rename(program)
    directory, port = tmp_path_factory.mktemp("gcs"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory",
        "-public-host", f"127.0.0.1:{port}", "-external-url", url,
    ]  # fmt: skip
    with server(command, f"{url}/storage/v1/b", directory / "log"):
        call = urllib.request.Request(
            f"{url}/storage/v1/b", data=json.dumps({"name": "lake"}).encode(), headers={"Content-Type": "application/json"}
        )
        urllib.request.urlopen(call, timeout=10).close()
        account = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
        yield url, {"google_service_account_key": json.dumps(account), "allow_http": "true"}


def run(workdir: pathlib.Path, name: str, spec: dict, failing: str | None = None) -> str:
    """Runs a query; one that fails must say `failing`."""
    path = workdir / f"{name}.yaml"
    path.write_text(yaml.safe_dump({
        "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": name},
        "spec": {"compute": {"workers": 2, "memory": "1Gi"}, "execution": {"mode": "distributed"}} | spec,
    }))  # fmt: skip
    done = subprocess.run(
        [support.binary("floe"), "run", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120
    )
    path.unlink()
    if failing is not None:
        assert done.returncode != 0 and failing in done.stderr, done.stderr + done.stdout
        return done.stderr
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stderr + done.stdout


def there_and_back(workdir: pathlib.Path, scheme: str, options: dict[str, str], rows: int) -> None:
    """A table written to the store, partitioned; grouped from there into the store; both read by the wheel."""
    (workdir / "data").mkdir()
    frame = pl.DataFrame({"k": [i % 5 for i in range(rows)], "x": range(rows), "s": [f"row {i * 7919}" for i in range(rows)]})
    for part in range(3):
        frame[part::3].write_parquet(workdir / "data" / f"part-{part}.parquet")
    storage = {"options": options}
    told = run(workdir, "there", {
        "plan": {"python": {"script": "result = scan('t')"}},
        "tables": {"t": {"uri": "data/*.parquet"}},
        "storage": storage,
        "sink": {"uri": f"{scheme}://lake/t/", "format": "parquet", "mode": "overwrite", "partitionBy": ["k"]},
    })  # fmt: skip
    told += run(workdir, "back", {
        "plan": {"python": {"script": "result = scan('t').group_by('k').agg(pl.len(), pl.col('x').sum(), pl.col('s').max())"}},
        "tables": {"t": {"format": "parquet", "uri": f"{scheme}://lake/t/**/*.parquet", "options": {"hive_partitioning": True}}},
        "storage": storage,
        "sink": {"uri": f"{scheme}://lake/sums/", "format": "parquet", "mode": "error"},
    })  # fmt: skip
    for name, value in options.items():
        assert "key" not in name or value not in told, f"{name} was printed"
    shutil.rmtree(workdir / "data")
    scan = lambda uri: pl.scan_parquet(uri, storage_options=options, hive_partitioning=True)  # noqa: E731
    support.assert_same(scan(f"{scheme}://lake/t/**/*.parquet").select(frame.columns).collect(), frame, ordered=False)
    want = frame.group_by("k").agg(pl.len(), pl.col("x").sum(), pl.col("s").max())
    support.assert_same(scan(f"{scheme}://lake/sums/*.parquet").select(want.columns).collect(), want, ordered=False)


def test_azure_blob(azure, workdir):
    there_and_back(workdir, "az", azure, rows=600_000)


def test_google_cloud_storage(google, workdir):
    url, options = google
    frame = pl.DataFrame({"k": [i % 5 for i in range(6_000)], "x": range(6_000)})
    for part in range(3):
        body = io.BytesIO()
        frame[part::3].write_parquet(body)
        name = urllib.parse.quote(f"t/day={part}/part.parquet", safe="")
        upload = f"{url}/upload/storage/v1/b/lake/o?uploadType=media&name={name}"
        call = urllib.request.Request(upload, data=body.getvalue(), headers={"Content-Type": "application/octet-stream"})
        urllib.request.urlopen(call, timeout=10).close()
    run(workdir, "back", {
        "plan": {"python": {"script": "result = scan('t').group_by('day').agg(pl.len(), pl.col('x').sum()).sort('day')"}},
        "tables": {"t": {"uri": "gs://lake/t/**/*.parquet", "options": {"hive_partitioning": True}}},
        "storage": {"options": options},
        "sink": {"uri": "out/", "format": "parquet", "mode": "error"},
    })  # fmt: skip
    want = pl.concat(
        pl.DataFrame({"day": [part], "len": [2000], "x": [frame[part::3]["x"].sum()]}, schema={"day": pl.Int64, "len": pl.UInt32, "x": pl.Int64})
        for part in range(3)
    )
    support.assert_same(pl.read_parquet(workdir / "out" / "*.parquet"), want)


def test_http(s3, workdir):
    """Files that anybody may read."""
    client = s3.client()
    client.create_bucket(Bucket="public")
    client.put_bucket_policy(Bucket="public", Policy=json.dumps({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::public/*",
    }]}))  # fmt: skip
    frame = pl.DataFrame({"k": [i % 7 for i in range(5_000)], "x": range(5_000)})
    for format in ("parquet", "csv"):
        path = workdir / f"t.{format}"
        getattr(frame, f"write_{format}")(path)
        client.upload_file(str(path), "public", path.name)
        path.unlink()
        run(workdir, f"http-{format}", {
            "plan": {"python": {"script": "result = scan('t').group_by('k').agg(pl.col('x').sum()).sort('k')"}},
            "tables": {"t": {"uri": f"{s3.endpoint}/public/t.{format}"}},
            "sink": {"uri": f"out/{format}/", "format": "parquet", "mode": "overwrite"},
        })  # fmt: skip
        want = frame.group_by("k").agg(pl.col("x").sum()).sort("k")
        support.assert_same(pl.read_parquet(workdir / "out" / format / "*.parquet"), want)
