"""The S3 server in the cluster, as the tests reach it: its service's address where that can be reached, else through a
port-forward that is kept up."""

from __future__ import annotations

import atexit
import base64
import functools
import os
import re
import socket
import subprocess
import threading

import boto3
import botocore.config

from tests.e2e import kube

NAMESPACE, SERVICE, BUCKET = "floe-e2e-s3", "s3", "floe"
KEY, SECRET = "floe", "floe-secret"
# As pods see it.
ENDPOINT = f"http://{SERVICE}.{NAMESPACE}.svc.cluster.local"
STORAGE = {
    "endpoint": ENDPOINT,
    "region": "us-east-1",
    "options": {"aws_allow_http": "true", "aws_virtual_hosted_style_request": "false"},
    "secretRef": {"name": "s3"},
}
CREDENTIALS = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}


@functools.cache
def endpoint() -> str:
    """The server's address as this process sees it."""
    service = kube.get("services", NAMESPACE, SERVICE)
    address = service["spec"]["clusterIP"]
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((address, 80)) == 0:
            return f"http://{address}"
    forward = subprocess.Popen(
        ["kubectl", "port-forward", "-n", NAMESPACE, f"service/{SERVICE}", ":80"], stdout=subprocess.PIPE, text=True
    )
    atexit.register(forward.kill)
    port = re.search(r":([0-9]+) ->", forward.stdout.readline())[1]
    # Its pipe must not fill up.
    threading.Thread(target=forward.stdout.read, daemon=True).start()
    return f"http://127.0.0.1:{port}"


@functools.cache
def client(inside: bool = False):
    """`inside`: as pods reach the server, to make addresses for them."""
    config = botocore.config.Config(
        s3={"addressing_style": "path"}, retries={"max_attempts": 5}, max_pool_connections=16, signature_version="s3v4",
        request_checksum_calculation="when_required", response_checksum_validation="when_required",
    )  # fmt: skip
    return boto3.client(
        "s3", endpoint_url=ENDPOINT if inside else endpoint(), region_name="us-east-1", aws_access_key_id=KEY,
        aws_secret_access_key=SECRET, config=config,
    )  # fmt: skip


def options() -> dict[str, str]:
    """As Polars' `storage_options`, for reading from here."""
    return CREDENTIALS | {
        "aws_endpoint_url": endpoint(),
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
        "aws_virtual_hosted_style_request": "false",
    }


def address(key: str) -> str:
    """Where a pod that has no credentials finds an object for an hour, if it is there."""
    return client(inside=True).generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": key})


def keys(prefix: str) -> list[str]:
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [one["Key"] for page in pages for one in page.get("Contents", [])]


def leftovers(prefix: str) -> list[str]:
    """What is unfinished below a prefix: hidden staged files, and uploads that nobody completed."""
    hidden = [key for key in keys(prefix) if any(part.startswith((".", "_")) for part in key.split("/"))]
    uploads = client().list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", [])
    return hidden + [f"upload of {one['Key']}" for one in uploads if one["Key"].startswith(prefix)]


def upload_tables(directory, prefix: str) -> None:
    """The tables of a directory, once for each prefix; several processes at once are fine."""
    marker = f"{prefix}/.complete"
    if keys(marker):
        return
    for path in sorted(directory.rglob("*.parquet")):
        client().upload_file(os.fspath(path), BUCKET, f"{prefix}/{path.relative_to(directory)}")
    client().put_object(Bucket=BUCKET, Key=marker, Body=b"")


def secret(name: str, namespace: str, key: str = KEY, secret: str = SECRET) -> dict:
    values = {"aws_access_key_id": key, "aws_secret_access_key": secret}
    data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": data}
